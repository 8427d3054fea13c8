"""What `batch-llm deploy` prints when Prefect refuses a preset."""

from __future__ import annotations

from batch_llm.cli.actions.deploy import cause_of

VALIDATION = """
Traceback (most recent call last):
  File "deploy.py", line 1, in <module>
pydantic_core._pydantic_core.ValidationError: 1 validation error for CronSchedule
cron
  Value error, Invalid cron string [type=value_error, input_value='99 * * * *', input_type=str]
    For further information visit https://errors.pydantic.dev/2.14/v/value_error
"""


def test_cause_is_the_error_and_not_the_link_below_it() -> None:
    assert cause_of(VALIDATION).startswith(
        "ValidationError: 1 validation error for CronSchedule cron Value error, Invalid cron string"
    )
    assert "https" not in cause_of(VALIDATION)


def test_cause_of_an_output_without_an_error_is_its_end() -> None:
    assert cause_of("one\n\ntwo\nthree\nfour\n") == "two three four"
