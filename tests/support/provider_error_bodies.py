"""Error bodies of providers and of proxies in front of them, with their categories.

Wordings from public issue trackers and the providers' pages; names and numbers are changed.
"""

from __future__ import annotations

from typing import Any

Body = Any
"""JSON or a page."""

NGINX = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>"


def openai_error(message: str, code: str | int | None = None, kind: str = "invalid_request_error") -> Body:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(kind: str, message: str) -> Body:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def google(status: str, message: str, code: int = 400) -> Body:
    return {"error": {"code": code, "message": message, "status": status}}


MODEL: list[tuple[int, Body]] = [
    (404, openai_error("The model `gpt-x` does not exist or you do not have access to it.", "model_not_found")),
    (403, openai_error("Project `proj_1` does not have access to model `gpt-x`", "model_not_found")),
    (
        400,
        openai_error("The model `llama-x` has been decommissioned and is no longer supported.", "model_decommissioned"),
    ),
    (400, openai_error("The model `llama-x` has been deprecated. Use `llama-y` instead.")),
    (400, openai_error("Unable to access non-serverless model a/B-x. Please visit the site.", "model_not_available")),
    (404, anthropic("not_found_error", "model: claude-x")),
    (404, {"error": {"message": "model 'llama-x' not found", "type": "not_found_error", "param": None, "code": None}}),
    (404, {"error": 'model "llama-x" not found, try pulling it first'}),
    (404, {"object": "error", "message": "The model `a/B` does not exist.", "type": "NotFoundError", "code": 404}),
    (404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}}),
    (400, {"error": {"message": "llama-x is not a valid model ID", "code": 400}, "user_id": "u"}),
    (404, {"error": {"message": "No endpoints found for a/llama-x:free.", "code": 404}}),
    (404, {"error": {"message": "No allowed providers are available for the selected model.", "code": 404}}),
    (400, openai_error("Model Not Exist", "invalid_request_error")),
    (400, {"object": "error", "message": "Invalid model: mistral-x", "type": "invalid_model", "code": "1500"}),
    (404, {"id": "1", "message": "model 'command-x' not found, make sure the correct model ID was used"}),
    (404, {"error": {"object": "error", "message": "Model not found, inaccessible, and/or not deployed"}}),
    (400, {"code": "Client specified an invalid argument", "error": "Model not found: grok-x"}),
    (400, {"error": {"code": "1211", "message": "模型不存在"}}),
    (
        400,
        openai_error(
            "The requested model 'a/b' is not supported by any provider you have enabled.", "model_not_supported"
        ),
    ),
    (404, openai_error("Not found the model moonshot-x or Permission denied", None, "resource_not_found_error")),
    (404, google("NOT_FOUND", "models/gemini-x is not found for API version v1beta", 404)),
    (404, [google("NOT_FOUND", "Publisher Model `projects/p/models/gemini-x` was not found.", 404)]),
    (400, {"message": "The provided model identifier is invalid."}),
    (404, {"message": "This model version has reached the end of its life. Please refer to the documentation."}),
    (410, openai_error("Model claude-x was retired on 2026-01-01.")),
    (422, {"detail": "Unknown model: x"}),
    (400, {"error": 'Failed to load model "a/b". Error: Failed to load model: unknown architecture'}),
    (
        404,
        {
            "status": 404,
            "title": "Not Found",
            "detail": "Function 'b0fcd392-e905-4ab4-8eb9-aeae95c30b37': Not found for account 'abcDEF'",
        },
    ),
    (503, openai_error("No available channel for model gpt-x under group default", "model_not_found")),
]
NOT_FOUND: list[tuple[int, Body]] = [
    (404, "404 page not found"),
    (404, NGINX.format("404 Not Found")),
    (404, {"detail": "Not Found"}),
    (404, ""),
    (410, NGINX.format("410 Gone")),
]
CONTENT: list[tuple[int, Body]] = [
    (
        403,
        {"code": "permission-denied", "error": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_X"},
    ),
    (403, anthropic("permission_error", "Request blocked by policy for this content")),
    (
        403,
        {
            "error": {
                "code": 403,
                "message": "Your input was flagged",
                "metadata": {"flagged_input": "the", "reasons": []},
            }
        },
    ),
    (
        400,
        openai_error(
            "The response was filtered due to the prompt triggering content management policy.", "content_filter"
        ),
    ),
    (
        400,
        openai_error(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy.", "invalid_prompt"
        ),
    ),
    (400, anthropic("invalid_request_error", "Output blocked by content filtering policy")),
    (400, {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content."}),
    (400, openai_error("Content Exists Risk: risk detected in the prompt")),
    (
        400,
        {
            "contentFilter": [],
            "error": {"code": "1301", "message": "The input may contain unsafe or sensitive content."},
        },
    ),
]
AUTH: list[tuple[int, Body]] = [
    (401, openai_error("Incorrect API key provided: sk-1.", "invalid_api_key")),
    (403, google("PERMISSION_DENIED", "Method doesn't allow unregistered callers. Please use API Key.", 403)),
    (403, openai_error("Country, region, or territory not supported", "unsupported_country_region_territory")),
    (400, google("FAILED_PRECONDITION", "User location is not supported for the API use.")),
    (
        403,
        {"code": "permission-denied", "error": "Access to the chat endpoint is denied. Use the correct credentials."},
    ),
    (403, {"message": "Forbidden"}),
    (403, {}),
    (403, anthropic("permission_error", "Your API key does not have permission to use the specified resource.")),
    (403, {"message": "You don't have access to the resource.", "__type": "AccessDeniedException"}),
]
FORBIDDEN: list[tuple[int, Body]] = [
    (403, NGINX.format("403 Forbidden")),
    (403, "<!DOCTYPE html><html><body>Sorry, you have been blocked. Your API key is fine.</body></html>"),
    (403, '<?xml version="1.0"?><Error><Code>Blocked</Code></Error>'),
    (403, {"error": "Request blocked by rule 949110"}),
]
QUOTA: list[tuple[int, Body]] = [
    (
        429,
        openai_error(
            "You exceeded your current quota, please check your plan.", "insufficient_quota", "insufficient_quota"
        ),
    ),
    (400, anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API.")),
    (400, anthropic("invalid_request_error", "You have reached your specified API usage limits.")),
    (402, {"error": {"message": "Insufficient Balance", "type": "unknown_error", "code": "invalid_request_error"}}),
    (402, {"error": {"message": "This request requires more credits, or fewer max_tokens.", "code": 402}}),
    (403, {"error": {"message": "Key limit exceeded (daily limit). Manage it in your settings.", "code": 403}}),
    (
        403,
        {
            "code": "permission-denied",
            "error": "Your team either used all available credits or reached its monthly spending limit.",
        },
    ),
    (403, {"code": "x", "error": "Your newly created team doesn't have any credits or licenses yet."}),
    (
        429,
        {
            "code": "x",
            "error": "Your team has either used all available credits or reached its monthly spending limit.",
        },
    ),
    (429, {"error": {"message": "Your account is suspended", "type": "exceeded_current_quota_error"}}),
    (412, {"error": {"message": "Account is suspended, possibly due to reaching the monthly spending limit"}}),
]
DAY: list[tuple[int, Body]] = [
    (
        429,
        openai_error(
            "Rate limit reached for gpt-x on requests per day (RPD): Limit 200, Used 200, Requested 1. Please try "
            "again in 7m12s.",
            "rate_limit_exceeded",
            "requests",
        ),
    ),
    (
        429,
        openai_error(
            "Rate limit reached for model `m` on tokens per day (TPD): Limit 100000, Used 97050, Requested 3619. "
            "Please try again in 9m38.016s.",
            "rate_limit_exceeded",
            "tokens",
        ),
    ),
    (
        429,
        {"error": {"message": "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000", "code": 429}},
    ),
    (429, anthropic("rate_limit_error", "Number of request tokens has exceeded your daily rate limit")),
    (429, {"message": "You are using a Trial key, which is limited to 1000 API calls / month."}),
    (
        429,
        {
            "error": {
                "code": "RateLimitReached",
                "message": "Rate limit of 50 per 86400s exceeded for UserByModelByDay.",
            }
        },
    ),
    (429, {"errors": [{"code": 4006, "message": "you have used up your daily free allocation of 10,000 neurons"}]}),
    (429, {"message": "Tokens per day limit exceeded - too many tokens processed.", "code": "token_quota_exceeded"}),
    (
        429,
        [
            {
                "error": {
                    "code": 429,
                    "status": "RESOURCE_EXHAUSTED",
                    "message": "Quota exceeded",
                    "details": [{"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}],
                }
            }
        ],
    ),
]
RATE: list[tuple[int, Body]] = [
    (
        429,
        openai_error(
            "Rate limit reached for gpt-x on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again "
            "in 20s.",
            "rate_limit_exceeded",
            "requests",
        ),
    ),
    (
        429,
        openai_error(
            "Rate limit reached on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000.",
            "rate_limit_exceeded",
        ),
    ),
    (
        429,
        google(
            "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details.", 429
        ),
    ),
    (
        429,
        {
            "message": "Requests per second limit exceeded",
            "type": "too_many_requests_error",
            "code": "request_quota_exceeded",
        },
    ),
    (
        429,
        anthropic(
            "rate_limit_error",
            "This request would exceed your organization's rate limit of 20,000 input tokens per minute.",
        ),
    ),
    (
        429,
        {
            "error": {
                "message": "Provider returned error",
                "code": 429,
                "metadata": {"raw": "m is rate-limited upstream"},
            }
        },
    ),
    (
        429,
        {
            "error": {
                "code": "RateLimitReached",
                "message": "Rate limit of 50000 per 60s exceeded for UserByModelByMinute.",
            }
        },
    ),
    (403, {"error": {"code": 403, "message": "Rate Limit Exceeded", "errors": [{"reason": "rateLimitExceeded"}]}}),
    (429, NGINX.format("429 Too Many Requests")),
    (429, "limit of the model reached; a model that does not exist is another matter"),
]
TOO_LARGE: list[tuple[int, Body]] = [
    (
        429,
        openai_error(
            "Request too large for gpt-x in organization o on tokens per min (TPM): Limit 30000, Requested 45411. "
            "The input or output tokens must be reduced.",
            "rate_limit_exceeded",
            "tokens",
        ),
    ),
    (
        413,
        openai_error(
            "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 7500",
            "rate_limit_exceeded",
        ),
    ),
    (
        429,
        openai_error(
            "Rate limit reached on tokens per day (TPD): Limit 100000, Used 0, Requested 120,000.",
            "rate_limit_exceeded",
        ),
    ),
    (429, {"message": "You requested 50000 tokens, which is over the limit of 40000 tokens per minute."}),
    (413, anthropic("request_too_large", "Request exceeds the maximum size")),
]
SERVER: list[tuple[int, Body]] = [
    *(
        (status, openai_error("try again"))
        for status in (409, 423, 424, 425, 440, 444, 449, 460, 498, 499, 500, 502, 503, 504, 520, 524, 529)
    ),
    (400, anthropic("overloaded_error", "Overloaded")),
    (503, openai_error("The model is overloaded. The model does not exist in this region.", None, "server_error")),
    (502, NGINX.format("502 Bad Gateway")),
]
INVALID: list[tuple[int, Body]] = [
    (400, openai_error("This model's maximum context length is 8192 tokens.", "context_length_exceeded")),
    (
        400,
        openai_error("Unsupported parameter: 'max_tokens' is not supported with this model.", "unsupported_parameter"),
    ),
    (400, openai_error("This response_format type is unavailable now")),
    (400, openai_error("Invalid schema for response_format: 'model' is a required property")),
    (422, {"detail": [{"loc": ["body"], "msg": "field required", "input": "The model `x` does not exist"}]}),
    (400, openai_error("Unknown model parameter: top_z")),
    (400, openai_error("Bad request: " + "The model `x` does not exist. " * 60)),
    (405, {}),
    (415, {}),
]
ALL: list[tuple[str, int, Body]] = [
    (category, *reply)
    for category, replies in {
        "model_not_found": MODEL,
        "not_found": NOT_FOUND,
        "content_filter": CONTENT,
        "auth": AUTH,
        "forbidden": FORBIDDEN,
        "quota_exhausted": [*QUOTA, *DAY],
        "rate_limit": RATE,
        "invalid_request": [*TOO_LARGE, *INVALID],
        "server_error": SERVER,
    }.items()
    for reply in replies
]
