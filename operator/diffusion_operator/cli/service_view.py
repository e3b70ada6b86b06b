"""A DiffusionService for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from diffusion_contract.names import REVISION_LABEL, ROLE_LABEL
from diffusion_operator.cli.parts import age, coloured, conditions, events, page, pod_state, rows_of
from diffusion_operator.observe.raw_values import condition_of, text_at
from diffusion_operator.observe.snapshot import Raw


def service_view(item: Raw, pods: Sequence[Raw], found_events: Sequence[Raw]) -> RenderableType:
    """Everything about one service on one page."""
    return page(item, _summary(item, item.get("status", {})), _pods(pods), conditions(item), events(found_events))


def _summary(item: Raw, status: Mapping[str, Any]) -> Mapping[str, Any]:
    replicas = status.get("replicas", {})
    return {
        "Ready": coloured(ready_word(item)),
        "Message": status.get("message"),
        "URL": status.get("url"),
        "Stable": _revision(status.get("stable"), "put in place"),
        "Candidate": _revision(status.get("candidate"), "begun"),
        "Replicas": f"{replicas.get('ready', 0)} ready of {replicas.get('desired', 0)}" if replicas else None,
        "Age": age(item["metadata"].get("creationTimestamp")),
    }


def ready_word(item: Raw) -> str:
    """The Ready condition's status; Unknown where the operator has not spoken yet."""
    return text_at(condition_of(item, "Ready"), "status") or "Unknown"


def _revision(revision: Mapping[str, Any] | None, what_was_done: str) -> str | None:
    if not revision:
        return None
    since = f", {what_was_done} {age(revision['since'])} ago" if revision.get("since") else ""
    return f"revision {revision.get('revision')} of {revision.get('model')}{since}"


def _pods(pods: Sequence[Raw]) -> Table:
    table = rows_of("POD", "ROLE", "REVISION", "STATE", "NODE", "AGE", title="Pods")
    for pod in pods:
        metadata, labels = pod["metadata"], pod["metadata"].get("labels", {})
        table.add_row(
            metadata["name"],
            labels.get(ROLE_LABEL, ""),
            labels.get(REVISION_LABEL, ""),
            coloured(pod_state(pod)),
            pod["spec"].get("nodeName", "-"),
            age(metadata.get("creationTimestamp")),
        )
    return table
