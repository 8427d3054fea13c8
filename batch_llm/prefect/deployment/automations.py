"""Automations of `deployments/automations.yaml`, installed on the Prefect server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from batch_llm.errors import BatchLLMError
from batch_llm.jobs import project_folder
from batch_llm.prefect.api import api

_NOTIFY = "notify"
"""Placeholder in the file for the id of the user's notification block."""

Block = Mapping[str, Any]
"""One block of `deployments/automations.yaml`."""


def read_automations() -> list[Block]:
    """Return the automations of `deployments/automations.yaml`."""
    file = project_folder() / "deployments" / "automations.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))["automations"]


def needs_block(block: Block) -> bool:
    """Return whether an automation sends notifications and so needs a notification block."""
    return any(action.get("block_document_id") == _NOTIFY for action in block["actions"])


def install(blocks: Iterable[Block], notify: str | None = None) -> list[str]:
    """Create automations or update those of the same name; disabled ones stay disabled.

    Args:
        blocks: Automations to install; without `notify`, those that send notifications are skipped.
        notify: Block that sends the notifications, as type/name: `slack-webhook/nightly`.

    Returns:
        Names of the installed automations.

    Raises:
        BatchLLMError: The block does not exist, or cannot send notifications.
    """
    with api() as client:
        block_id = _notification_block(client, notify) if notify else None
        wanted = [_resolved(block, block_id) for block in blocks if block_id or not needs_block(block)]
        for automation in wanted:
            _put(client, automation)
    return [automation.name for automation in wanted]


def _resolved(block: Block, block_id: UUID | None) -> AutomationCore:
    actions = [
        {**action, "block_document_id": block_id} if action.get("block_document_id") == _NOTIFY else action
        for action in block["actions"]
    ]
    return AutomationCore.model_validate({**block, "actions": actions})


def _put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    known = client.read_automations_by_name(automation.name)
    if not known:
        client.create_automation(automation)
        return
    automation.enabled = known[0].enabled
    client.update_automation(known[0].id, automation)


def _notification_block(client: SyncPrefectClient, name: str) -> UUID:
    kind, _, own = name.partition("/")
    try:
        block = client.read_block_document_by_name(own, kind)
    except ObjectNotFound:
        raise BatchLLMError(
            f"block {name!r} does not exist: create one in the UI under Blocks (a Slack Webhook, ...) and pass it as "
            "type/name, such as slack-webhook/nightly"
        ) from None
    if block.block_schema is None or "notify" not in block.block_schema.capabilities:
        raise BatchLLMError(f"block {name!r} cannot send notifications: use one that can, such as a Slack Webhook")
    return block.id
