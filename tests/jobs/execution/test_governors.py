"""Which calls share a governor: those of the same scope in the same process, at the same time."""

from __future__ import annotations

from batch_llm.jobs import governed, scope_of
from tests.support.jobs import job


def test_a_limit_belongs_to_the_model_unless_the_job_names_a_scope() -> None:
    assert scope_of(job(model="openai-chat:m")) == "openai-chat:m"
    assert scope_of(job(model="openai-chat:m", limit_scope="team-account")) == "team-account"


def test_runs_of_one_scope_share_a_governor_while_they_last() -> None:
    summaries, titles = job(name="summaries", limit_scope="account"), job(name="titles", limit_scope="account")
    with governed(summaries) as first, governed(titles) as second, governed(job(limit_scope="other")) as other:
        assert first is second
        assert other is not first
    with governed(summaries) as later:
        assert later is not first


def test_pool_process_keeps_its_governor_between_shards() -> None:
    lent = job(limit_scope="lent")
    with governed(lent, lingers=True) as first:
        pass
    with governed(lent, lingers=True) as second:
        assert second is first


def test_latest_job_of_a_scope_sets_its_limits() -> None:
    with governed(job(limits={"requests_per_minute": 600})) as governor:
        assert governor.status().rate == 10
        with governed(job(limits={"requests_per_minute": 1200})):
            assert governor.status().rate == 20
