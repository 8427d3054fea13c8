"""A server that speaks the Gemini API: `generateContent` and `cachedContents` under any version prefix.

A healthy answer echoes the last user text, or fits the response schema, or calls the first declared function. What the
service refuses is refused, in the service's words: `role=system`, a system instruction or tools beside a cache, a cache
that is too small, gone, or of another model, the key "bad-key", the model "no-such-model". References:
https://ai.google.dev/api/generate-content, https://ai.google.dev/api/caching, https://ai.google.dev/gemini-api/docs/troubleshooting
"""

from __future__ import annotations

import json
from typing import Any

from .gemini_caches import CacheShelf
from .loopback import Call, Json, LoopbackServer, Reply, tokens
from .schema_answers import fit

_STATUSES = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
_SAFE = [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}]
_UNSAFE = [{"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": True}]


class GeminiServer(LoopbackServer):
    """Set `GOOGLE_GEMINI_BASE_URL` (or `http_options.base_url`) to `server.url` and any key.

    Attributes:
        shelf: The caches: `shelf.caches` by name, `shelf.expire()`, `shelf.least_tokens`, `shelf.clock_offset`.
        thoughts: Thinking tokens that every answer costs.
    """

    main_kind = "generate"

    def __init__(self, *, least_cache_tokens: int = 1024, thoughts: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.shelf = CacheShelf(least_cache_tokens)
        self.thoughts = thoughts

    def kind(self, method: str, path: str) -> str:
        if path.endswith(":generateContent"):
            return "generate"
        names = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}
        reading = "list" if path.endswith("/cachedContents") else "get"
        return f"cache.{names.get(method, reading)}" if "/cachedContents" in path else f"{method} {path}"

    def prompt(self, body: Json) -> str:
        turns = [content for content in body.get("contents", []) if content.get("role", "user") == "user"]
        return _text(turns[-1]) if turns else ""

    def healthy(self, call: Call) -> Reply:
        if call.headers.get("x-goog-api-key") == "bad-key":
            return self.bad_key()
        if any(content.get("role") not in (None, "user", "model") for content in call.body.get("contents", [])):
            return self.error(400, "Please use a valid role: user, model.")
        if call.kind.startswith("cache."):
            return self._on_cache(call)
        if call.kind != "generate" or "no-such-model" in call.path:
            return self.no_such_model()
        return self._generate(call)

    def usage(self, body: Json) -> tuple[int, int]:
        usage = body.get("usageMetadata", {})
        spent_out = usage.get("candidatesTokenCount", 0) + usage.get("thoughtsTokenCount", 0)
        return usage.get("promptTokenCount", 0), spent_out

    # Replies for scripts.

    def text(self, text: str | None, *, finish_reason: str = "STOP", ratings: list[Json] | None = None) -> Reply:
        """Answer with this text, whatever the requested format is; None gives a candidate without content."""
        parts = [] if text is None else [{"text": text}]
        return Reply(body=lambda call: self._response(call, parts, finish_reason, ratings))

    def safety(self) -> Reply:
        """An answer that was stopped half-way for safety."""
        return self.text("Half an ans", finish_reason="SAFETY", ratings=_UNSAFE)

    def max_tokens(self) -> Reply:
        """An answer that the token limit cut off."""
        return self.text("Half an ans", finish_reason="MAX_TOKENS")

    def blocked(self) -> Reply:
        """A prompt that was not let through: no candidate at all."""

        def body(call: Call) -> Json:
            feedback = {"blockReason": "PROHIBITED_CONTENT", "safetyRatings": _UNSAFE}
            return {"promptFeedback": feedback, "usageMetadata": self._usage(call, 0)}

        return Reply(body=body)

    @staticmethod
    def error(status: int, message: str, *details: Json, name: str | None = None) -> Reply:
        """Answer with an error in Google's shape."""
        error: Json = {"code": status, "message": message, "status": name or _STATUSES.get(status, "INTERNAL")}
        return Reply(status, {"error": error | ({"details": list(details)} if details else {})})

    @classmethod
    def rate_limit(cls, retry_delay: float | None = None, *, per: str = "Minute") -> Reply:
        """429 of a quota per minute, or per "Day"; with a `RetryInfo` where `retry_delay` (seconds) is given."""
        quota = {"quotaId": f"GenerateRequestsPer{per}PerProjectPerModel-FreeTier", "quotaValue": "10"}
        details: list[Json] = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [quota]}]
        if retry_delay is not None:
            details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_delay:g}s"})
        return cls.error(429, "You exceeded your current quota, please check your plan and billing details.", *details)

    @classmethod
    def quota(cls) -> Reply:
        """429 of the day's quota; the service sends a short `RetryInfo` with it all the same."""
        return cls.rate_limit(22, per="Day")

    @classmethod
    def bad_key(cls) -> Reply:
        """400: that is how Gemini refuses a key."""
        reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
        return cls.error(400, "API key not valid. Please pass a valid API key.", reason)

    @classmethod
    def no_such_model(cls) -> Reply:
        """404."""
        return cls.error(404, "models/no-such-model is not found for API version v1beta.")

    @classmethod
    def too_long(cls) -> Reply:
        """400: the prompt does not fit."""
        return cls.error(400, "The input token count (9000) exceeds the maximum number of tokens allowed (8192).")

    @classmethod
    def overloaded(cls) -> Reply:
        """503."""
        return cls.error(503, "The model is overloaded. Please try again later.", name="UNAVAILABLE")

    @classmethod
    def server_error(cls) -> Reply:
        """500."""
        return cls.error(500, "An internal error has occurred.")

    # How it answers.

    def _on_cache(self, call: Call) -> Reply:
        outcome = self.shelf.answer(call)
        return self.error(*outcome) if isinstance(outcome, tuple) else Reply(body=outcome)

    def _generate(self, call: Call) -> Reply:
        if name := call.body.get("cachedContent"):
            if any(call.body.get(field) for field in ("systemInstruction", "tools", "toolConfig")):
                refusal = (
                    "CachedContent can not be used with GenerateContent request setting system_instruction, tools or"
                )
                return self.error(400, f"{refusal} tool_config.")
            if refused := self.shelf.refusal(name, call.path):
                return self.error(*refused)
        return Reply(body=self._response(call, [_healthy_part(call)], "STOP"))

    def _response(self, call: Call, parts: list[Json], finish: str, ratings: list[Json] | None = None) -> Json:
        candidate = {"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0}
        spent_out = sum(tokens(part.get("text") or json.dumps(part)) for part in parts)
        return {
            "candidates": [candidate | {"safetyRatings": ratings or _SAFE}],
            "usageMetadata": self._usage(call, spent_out),
            "modelVersion": call.path.rpartition("/")[2].removesuffix(":generateContent"),
        }

    def _usage(self, call: Call, spent_out: int) -> Json:
        cached = self.shelf.tokens(call.body.get("cachedContent"))
        system = tokens(_text(call.body.get("systemInstruction") or {}))
        spent_in = cached + system + sum(tokens(_text(content)) for content in call.body.get("contents", []))
        usage: Json = {"promptTokenCount": spent_in, "candidatesTokenCount": spent_out}
        usage |= {"cachedContentTokenCount": cached} if cached else {}
        usage |= {"thoughtsTokenCount": self.thoughts} if self.thoughts else {}
        return usage | {"totalTokenCount": spent_in + spent_out + self.thoughts}


def _healthy_part(call: Call) -> Json:
    settings = call.body.get("generationConfig", {})
    if schema := settings.get("responseJsonSchema") or settings.get("responseSchema"):
        return {"text": json.dumps(fit(schema, call.prompt))}
    if tools := call.body.get("tools"):
        function = tools[0]["functionDeclarations"][0]
        names = ("parametersJsonSchema", "parameters_json_schema", "parameters")  # all of them are seen on the wire
        schema = next(function[name] for name in names if name in function)
        return {"functionCall": {"name": function["name"], "args": fit(schema, call.prompt)}}
    return {"text": call.prompt}


def _text(content: Json) -> str:
    return " ".join(part.get("text", "") for part in content.get("parts", []))
