"""The list of trainings and services."""

from collections.abc import Sequence

from rich.table import Table

from diffusion_operator.cli.parts import age, coloured, rows_of
from diffusion_operator.cli.service_view import ready_word
from diffusion_operator.observe.snapshot import Raw


def list_table(found: Sequence[Raw], *, show_namespace: bool) -> Table:
    """One row each: kind, name, state, how far, age."""
    columns = (["NAMESPACE"] if show_namespace else []) + ["KIND", "NAME", "STATE", "PROGRESS", "AGE"]
    table = rows_of(*columns)
    for item in found:
        metadata, status = item["metadata"], item.get("status", {})
        if item["kind"] == "DiffusionTraining":
            state, progress = status.get("phase", "Pending"), status.get("progress", {}).get("display", "-")
        else:
            ready = ready_word(item)
            state = "Ready" if ready == "True" else "Waiting"
            progress = f"{status.get('replicas', {}).get('ready', 0)} ready"
        place = [metadata["namespace"]] if show_namespace else []
        kind = item["kind"].removeprefix("Diffusion")
        table.add_row(*place, kind, metadata["name"], coloured(state), progress, age(metadata.get("creationTimestamp")))
    return table
