"""Secrets do not reach files or screens."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.jobs.secrets import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abcdefghij", "Authorization: Bearer ***"),
        ("Authorization: Basic aHVudGVyOmh1bnRlcg==", "Authorization: Basic ***"),
        ("no route to http://me:pass@proxy:8080/v1", "no route to http://***@proxy:8080/v1"),
        ("postgresql://:p4ss@db/x and redis://me@db:6379/0", "postgresql://***@db/x and redis://me@db:6379/0"),
        ("see http://host:80/a@b", "see http://host:80/a@b"),
        ("GET /v1?key=abcdefghij&x=1", "GET /v1?key=***&x=1"),
        ('{"api_key": "abcdefghij"}', '{"api_key": "***"}'),
        ("Incorrect API key provided: sk-proj-abcdef123456.", "Incorrect API key provided: ***."),
        ("the key to success is work", "the key to success is work"),
        ("Expected 4290 tokens", "Expected 4290 tokens"),
    ],
)
def test_text_that_looks_like_a_secret_is_redacted(text: str, shown: str) -> None:
    """Ordinary sentences are not changed."""
    assert redact(text) == shown


def test_values_of_secret_variables_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """At any position in a text; short values are ignored, because they may be ordinary words."""
    monkeypatch.setenv("MY_TOKEN", "qwertyuiop")
    monkeypatch.setenv("MY_PASSWORD", "test")
    assert redact("a qwertyuiop in a test") == "a *** in a test"


ODD = "k\u00e4y/with \"quotes' & <odd> \\ letters"
SECRET = "k/with+plus=and/slash"
OF_NO_SHAPE = "of-no-particular-shape"


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AZURE_OPENAI_KEY",
        "MY_PASSWD",
        "DB_PASS",
        "SERVICE_CREDENTIALS",
        "PROXYAUTH",
        "OPENAIKEY",
        "my_token_2",
        "STORAGE_CONNECTION_STRING",
    ],
)
def test_variable_is_recognised_as_secret_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, OF_NO_SHAPE)
    assert redact(f"server said {OF_NO_SHAPE} is wrong") == "server said *** is wrong"


@pytest.mark.parametrize("name", ["GIT_AUTHOR_NAME", "KEYBOARD_LAYOUT", "PWD", "TOKENIZERS", "SECRET_FILE", "LANG"])
def test_other_variables_are_not_secret(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, OF_NO_SHAPE)
    assert OF_NO_SHAPE in redact(f"server said {OF_NO_SHAPE} is wrong")


def test_password_of_a_variable_with_a_pair_or_url_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:hunter2hunter2")
    monkeypatch.setenv("WAREHOUSE", "postgresql://me:s3cretsecret@db/x")
    assert redact("wrong: hunter2hunter2, s3cretsecret") == "wrong: ***, ***"


def test_password_is_hidden_as_it_is_and_as_it_stands_in_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database names the password that it got, without the escapes of the URL."""
    monkeypatch.setenv("WAREHOUSE", "postgresql://postgres:p%40ssw%2Frd!x@db/x")
    assert redact("postgres: p@ssw/rd!x, p%40ssw%2Frd!x") == "postgres: ***, ***"


def test_key_in_a_dsn_and_lines_of_a_secret_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTRY_DSN", "https://0123456789abcdef0123@o1.example.com/42")
    monkeypatch.setenv("SIGNING_KEY", "-- begin --\nc2lnbmluZy1rZXktb2Yt\n-- end --")
    assert redact("key 0123456789abcdef0123, line c2lnbmluZy1rZXktb2Yt") == "key ***, line ***"


def test_path_of_a_secret_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user needs the path to fix the error."""
    file = tmp_path / "account.json"
    file.touch()
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    assert redact(f"no such project in {file}") == f"no such project in {file}"


@pytest.mark.parametrize(
    "form",
    [
        quote(SECRET, safe=""),
        quote(SECRET),
        quote(SECRET, safe="").replace("%2F", "%2f").replace("%2B", "%2b").replace("%3D", "%3d"),
        quote_plus(SECRET),
        SECRET.encode().hex(),
    ],
)
def test_an_encoded_secret_is_hidden(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("GROQ_API_KEY", SECRET)
    assert redact(f"GET /v1?q={form}&x=1") == "GET /v1?q=***&x=1"


@pytest.mark.parametrize(
    "form",
    [
        json.dumps(ODD)[1:-1],
        json.dumps(json.dumps(ODD))[3:-3],
        json.dumps(ODD)[1:-1].replace("/", "\\/"),  # PHP
        json.dumps(ODD, ensure_ascii=False)[1:-1].translate({38: "\\u0026", 60: "\\u003c", 62: "\\u003e"}),  # Go
        repr(ODD)[1:-1],
        repr(ODD.encode())[2:-1],
        html.escape(ODD),
        html.escape(ODD, quote=False),
        html.escape(ODD).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
        ODD.encode().hex().upper(),
    ],
)
def test_an_escaped_secret_is_hidden(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """In JSON as Python, PHP and Go write it, in JSON within JSON, in HTML, and in hexadecimal digits."""
    monkeypatch.setenv("GROQ_API_KEY", ODD)
    assert redact(f"wrong: <{form}>") == "wrong: <***>"


@given(st.binary(max_size=7), st.binary(max_size=7), st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]))
def test_secret_in_base64_is_hidden_at_any_offset(
    before: bytes, after: bytes, encode: Callable[[bytes], bytes]
) -> None:
    """Only its neighbours remain, and at most one byte of the secret at each end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROQ_API_KEY", SECRET)
        shown = redact(f"echo {encode(before + SECRET.encode() + after).decode()}")
    left = shown.removeprefix("echo ").partition("***")
    assert left[1] == "***"
    assert len(left[0]) <= len(before) * 4 // 3 + 1
    assert len(left[2]) <= len(after) * 4 // 3 + 5


@pytest.mark.parametrize(
    "secret",
    [
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz",
        "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
        "xoxb-123456789012-abcdefghij",
        "AKIAIOSFODNN7EXAMPLE",
        "gsk_abcdefghijklmnopqrstuvwxyz",
        "sk_live_abcdefghijklmnop",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_token_is_recognised_by_its_shape(secret: str) -> None:
    assert redact(f"got {secret} there") == "got *** there"
    assert redact(f"/v1?q={quote(secret, safe='')}&x=1").count("***") == (" " not in secret)


def test_signature_of_a_signed_url_is_hidden() -> None:
    url = "https://a.blob.core.windows.net/c?sv=2026-01-01&sig=ab%2Bcd%3Dzzzz&se=1"
    assert redact(url) == "https://a.blob.core.windows.net/c?sv=2026-01-01&sig=***&se=1"


@pytest.mark.parametrize(
    "text", ["disk-usage-report-of-today", "risk-assessment-2026", "max_tokens: 12345678", "the author: somebodylong"]
)
def test_ordinary_words_similar_to_a_secret_are_shown(text: str) -> None:
    assert redact(text) == text
