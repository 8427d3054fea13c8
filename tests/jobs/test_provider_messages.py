"""What a reader of an error sees first is the provider's own message."""

from __future__ import annotations

import pytest

from batch_llm.jobs.provider_messages import provider_first


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("ModelHTTPError: status_code: 500, model_name: gpt-6-luna, body: {'message': 'injected'}", "500: injected"),
        (
            "ContextError: status_code: 400, model_name: m, body: {'message': \"it's too long\", 'param': None}",
            "400: it's too long",
        ),
        (
            "BadRequestError: Error code: 400 - {'error': {'message': 'no such {field}', 'code': 1}}",
            "400: no such {field}",
        ),
        (
            "ClientError: 429 RESOURCE_EXHAUSTED. {'error': {'code': 429, 'message': 'Quota exceeded'}}",
            "429: Quota exceeded",
        ),
        (
            "E: status_code: 503, model_name: m, body: {'message': 'a text that was cut ... (9,000 characters)",
            "503: a text that was cut ... (9,000 characters)",
        ),
        (
            "E: status_code: 500, model_name: m, body: {'oops': 1}",
            "E: status_code: 500, model_name: m, body: {'oops': 1}",
        ),
        ("E: status_code: 502, model_name: m, body: None", "E: status_code: 502, model_name: m, body: None"),
        ("ValueError: the answer is no JSON: {'message': 1}", "ValueError: the answer is no JSON: {'message': 1}"),
        ("E: status_code: 500, body: " + "{" * 5000, "E: status_code: 500, body: " + "{" * 5000),
        ("ModelHTTPError: status_code: 401, model_name: m, body: bad key", "401: bad key"),
        ("", ""),
    ],
)
def test_the_message_of_the_provider_comes_first(error: str, shown: str) -> None:
    assert provider_first(error) == shown
