"""A server that speaks OpenAI's chat completions: `POST /chat/completions` under any prefix.

A healthy answer echoes the last user message; where the request names a JSON Schema (`response_format`) or tools, it is
an object that fits the schema, or a call of the first tool. Refused as OpenAI refuses them: the key "bad-key" and the
model "no-such-model". Error bodies: https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

import json
from typing import Any

from .loopback import Call, Json, LoopbackServer, Reply, tokens
from .schema_answers import fit


class OpenAIServer(LoopbackServer):
    """Set `OPENAI_BASE_URL` (or a provider's `base_url`) to `server.base_url` and any key."""

    main_kind = "chat"

    @property
    def base_url(self) -> str:
        """The base URL for the OpenAI SDK."""
        return f"{self.url}/v1"

    def kind(self, method: str, path: str) -> str:
        return "chat" if path.endswith("/chat/completions") else f"{method} {path}"

    def prompt(self, body: Json) -> str:
        texts = [_text(message["content"]) for message in body.get("messages", []) if message["role"] == "user"]
        return texts[-1] if texts else ""

    def healthy(self, call: Call) -> Reply:
        if call.kind != "chat":
            return self.error(404, f"Unknown request URL: {call.kind}", "unknown_url")
        if call.headers.get("authorization") == "Bearer bad-key":
            return self.bad_key()
        if call.body.get("model") == "no-such-model":
            return self.no_such_model()
        return Reply(body=_completion(call, _healthy_message(call), "stop"))

    def usage(self, body: Json) -> tuple[int, int]:
        usage: Any = body.get("usage")
        if not isinstance(usage, dict):
            return 0, 0
        counts: list[Any] = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]  # pyright: ignore[reportUnknownMemberType]  a test's own
        sent, received = (count if isinstance(count, int) else 0 for count in counts)
        return sent, received

    # Replies for scripts.

    @staticmethod
    def text(text: str | None, *, finish_reason: str = "stop", cached: int = 0) -> Reply:
        """Answer with this text, whatever the requested format is; `cached` prompt tokens came from OpenAI's cache."""
        return Reply(body=lambda call: _completion(call, {"content": text}, finish_reason, cached))

    @staticmethod
    def calls_tool(name: str, arguments: str) -> Reply:
        """Answer with a call of a tool; `arguments` are JSON, or what a model took for it."""
        return Reply(body=lambda call: _completion(call, _tool_call(name, arguments), "stop"))

    @staticmethod
    def error(
        status: int, message: str, code: str | None, kind: str = "invalid_request_error", **headers: str
    ) -> Reply:
        """Answer with an error in OpenAI's shape."""
        body: Json = {"error": {"message": message, "type": kind, "param": None, "code": code}}
        return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})

    @classmethod
    def rate_limit(cls, retry_after: float | str | None = None) -> Reply:
        """429 of the requests per minute; `retry_after` in seconds or as an HTTP date."""
        headers = {} if retry_after is None else {"retry_after": str(retry_after)}
        return cls.error(429, "Rate limit reached for requests per min.", "rate_limit_exceeded", "requests", **headers)

    @classmethod
    def quota(cls) -> Reply:
        """429 of a used-up quota, against which waiting does not help."""
        message = "You exceeded your current quota, please check your plan and billing details."
        return cls.error(429, message, "insufficient_quota", "insufficient_quota")

    @classmethod
    def server_error(cls) -> Reply:
        """500."""
        return cls.error(500, "The server had an error while processing your request.", None, "server_error")

    @classmethod
    def overloaded(cls, **headers: str) -> Reply:
        """503."""
        return cls.error(503, "The engine is currently overloaded.", None, "server_error", **headers)

    @classmethod
    def bad_key(cls) -> Reply:
        """401."""
        return cls.error(401, "Incorrect API key provided: bad-key.", "invalid_api_key")

    @classmethod
    def no_such_model(cls) -> Reply:
        """404."""
        return cls.error(404, "The model `no-such-model` does not exist.", "model_not_found")

    @classmethod
    def too_long(cls) -> Reply:
        """400: the prompt does not fit."""
        return cls.error(400, "This model's maximum context length is 8192 tokens.", "context_length_exceeded")

    @classmethod
    def content_filter(cls, text: str | None = "Half an ans") -> Reply:
        """An answer that the filter cut off."""
        return cls.text(text, finish_reason="content_filter")

    @classmethod
    def length(cls, text: str = "Half an ans") -> Reply:
        """An answer that the token limit cut off."""
        return cls.text(text, finish_reason="length")

    @classmethod
    def broken_json(cls) -> Reply:
        """An answer that is not valid JSON."""
        return cls.text('{"title": ')


def input_tokens(body: Json) -> int:
    """Count the input tokens of a request."""
    return sum(tokens(_text(part.get("content"))) for part in body.get("messages", []))


def _healthy_message(call: Call) -> Json:
    prompt = call.prompt
    shape: Json = call.body.get("response_format") or {}
    if shape.get("type") == "json_schema":
        return {"content": json.dumps(fit(shape["json_schema"]["schema"], prompt))}
    if tools := call.body.get("tools"):
        function = tools[0]["function"]
        return _tool_call(function["name"], json.dumps(fit(function["parameters"], prompt)))
    return {"content": prompt}


def _tool_call(name: str, arguments: str) -> Json:
    named = {"name": name, "arguments": arguments}
    return {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": named}]}


def _completion(call: Call, message: Json, finish_reason: str, cached: int = 0) -> Json:
    spent_in = input_tokens(call.body)
    spent_out = tokens(message.get("content") or json.dumps(message.get("tool_calls", "")))
    if "tool_calls" in message:
        finish_reason = "tool_calls"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": call.body.get("model", ""),
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}],
        "usage": {
            "prompt_tokens": spent_in,
            "completion_tokens": spent_out,
            "total_tokens": spent_in + spent_out,
            "prompt_tokens_details": {"cached_tokens": cached},
        },
    }


def _text(content: str | list[Json] | None) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content or [])
