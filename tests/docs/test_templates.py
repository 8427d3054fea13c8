"""Checks of the Docker and Kubernetes templates that need no container engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from batch_llm.jobs import project_folder

DEPLOYMENTS = project_folder() / "deployments"
BIN = Path(sys.executable).parent


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOYMENTS / name).read_text()))


def containers() -> list[dict[str, Any]]:
    deployments = [each for each in documents("kubernetes.yaml") if each["kind"] == "Deployment"]
    return [container for each in deployments for container in each["spec"]["template"]["spec"]["containers"]]


def commands() -> list[list[str]]:
    """Return the commands that containers start with."""
    (started,) = re.findall(r"^CMD (.*)$", (DEPLOYMENTS / "Dockerfile").read_text(), flags=re.MULTILINE)
    services = documents("compose.yaml")[0]["services"].values()
    composed = [service["command"] for service in services if "command" in service]
    return [json.loads(started), *composed, *(container["command"] for container in containers())]


@pytest.mark.whole
def test_commands_of_containers_exist() -> None:
    """Each option exists in the installed command."""
    assert len(commands()) == 5
    for words in {tuple(command[:3]) for command in commands()}:
        program, *path = words
        done = subprocess.run([str(BIN / program), *path, "--help"], capture_output=True, text=True, check=True)
        given = [word for command in commands() if tuple(command[:3]) == words for word in command]
        assert all(option in done.stdout for option in given if option.startswith("--"))


@pytest.mark.parametrize(
    "command",
    [
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"],
        ["kubernetes-validate", "--strict", "kubernetes.yaml"],
        ["hadolint", "--ignore", "DL3013", "Dockerfile"],  # versions are the user's to pin
    ],
    ids=lambda command: command[-1],
)
def test_each_template_is_valid(command: list[str]) -> None:
    """The schemas of Compose and Kubernetes and the linter of Dockerfiles accept them."""
    program, *arguments = command
    done = subprocess.run(
        [str(BIN / program), *arguments], cwd=DEPLOYMENTS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_private_files_are_not_copied_into_an_image() -> None:
    """Keys, ledgers and virtual environments of a checkout are ignored; `.ci/wheel` builds from the other files."""
    lines = [line for line in (project_folder() / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    tracked = subprocess.run(["git", "ls-files"], cwd=project_folder(), capture_output=True, text=True, check=True)
    assert {line[1:] for line in lines if line.startswith("!")} < {
        line.split("/")[0] for line in tracked.stdout.split()
    }


def test_image_installs_what_the_wheel_test_installs() -> None:
    """pip installs the package and s3fs from the checkout."""
    assert "RUN pip install --no-cache-dir '/src[server]' s3fs" in (DEPLOYMENTS / "Dockerfile").read_text()
    services = documents("compose.yaml")[0]["services"]
    for service in (services["server"], services["worker"]):
        context = (DEPLOYMENTS / service["build"]["context"]).resolve()
        assert (context / service["build"]["dockerfile"]).exists()
        assert (context / "pyproject.toml").exists()


@pytest.mark.parametrize("kind", ["Deployment", "Service"])
def test_selectors_find_their_pods(kind: str) -> None:
    """Kubernetes accepts a selector without pods and reports nothing."""
    found = documents("kubernetes.yaml")
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in found if each["kind"] == "Deployment"]
    for each in found:
        if each["kind"] == kind:
            selector = each["spec"]["selector"]
            assert selector.get("matchLabels", selector) in labels
