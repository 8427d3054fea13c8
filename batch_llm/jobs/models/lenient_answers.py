"""Repair of replies of OpenAI's Responses API and Anthropic's Messages API that lack fields that clients require.

Compatible servers and gateways send a text instead of a list of parts, omit empty lists, or add entries of unknown
types. Sources: https://platform.openai.com/docs/api-reference/responses/object,
https://docs.anthropic.com/en/api/messages.
"""

from __future__ import annotations

import json
from typing import Any, cast

from .lenient_completions import moment

Json = dict[str, Any]


def complete_response(body: Json) -> bool:
    """Repair a reply of the Responses API in place and return whether anything was changed."""
    if "output" not in body and body.get("object") != "response":
        return False
    before = json.dumps(body)
    output: object = body.get("output")
    if isinstance(output, str) and output:
        output = [{"type": "message", "content": output}]
    elif not output and isinstance(body.get("output_text"), str) and body["output_text"]:
        output = [{"type": "message", "content": body["output_text"]}]
    body["output"] = _objects(output)
    for index, item in enumerate(body["output"]):
        _complete_item(item, index)
    if "created_at" in body:
        body["created_at"] = moment(body["created_at"])
    if body.get("status") == "incomplete" and not isinstance(body.get("incomplete_details"), dict):
        body["incomplete_details"] = {"reason": "max_output_tokens"}
    return json.dumps(body) != before


def complete_message(body: Json) -> bool:
    """Repair a reply of the Messages API in place and return whether anything was changed."""
    if "content" not in body:
        return False
    before = json.dumps(body)
    body["type"], body["role"] = "error" if body.get("type") == "error" else "message", "assistant"
    content: object = body["content"]
    if isinstance(content, str) and content:
        content = [{"type": "text", "text": content}]
    blocks = _objects(content)
    for block in blocks:
        block.setdefault("type", "text")
    body["content"] = [block for block in blocks if block["type"] != "text" or isinstance(block.get("text"), str)]
    if body["content"] and not body.get("stop_reason"):
        body["stop_reason"] = "end_turn"  # a reply without one is complete; only streams can end without one
    return json.dumps(body) != before


def _objects(value: object) -> list[Json]:
    entries = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Json", entry) for entry in entries if isinstance(entry, dict)]


def _complete_item(item: Json, index: int) -> None:
    item.setdefault("type", "message")
    content: object = item.get("content")
    if item["type"] == "message":
        if isinstance(content, str) and content:
            content = [{"type": "output_text", "text": content}]
        item["content"] = _objects(content)
        item["role"] = "assistant"
        if not isinstance(item.get("id"), str):
            item["id"] = f"msg_{index}"
        for part in item["content"]:
            _complete_part(part)
    elif "content" not in item:
        item["content"] = []  # clients read it in items of types that they do not know
    if item["type"] == "reasoning":
        item["summary"] = _objects(item.get("summary"))


def _complete_part(part: Json) -> None:
    if part.get("type") in ("text", None):
        part["type"] = "output_text"
    if part["type"] == "output_text":
        part["annotations"] = _objects(part.get("annotations"))
        if not isinstance(part.get("text"), str):
            part["text"] = ""
