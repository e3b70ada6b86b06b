"""Pieces that the views share: ages, bars, conditions, events. Pure: raw objects in, things for rich out."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from diffusion_operator.observe.creation_failures import last_seen
from diffusion_operator.observe.snapshot import Raw

_GOOD = {"Succeeded", "Running", "True", "Ready", "Completed"}
_BAD = {"Failed", "False", "Error", "CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "OOMKilled"}
BAR_WIDTH = 30
NEWEST_EVENTS = 10
_FAULTS_WHEN_TRUE = {"Stalled", "Failed"}
_NEUTRAL = {"Reconciling"}


def age(since: str | None, now: datetime | None = None) -> str:
    """How long ago an RFC 3339 time was, as kubectl writes it: 12s, 5m, 3h, 2d."""
    if not since:
        return "-"
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(since)).total_seconds()
    for size, letter in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{letter}"
    return f"{max(0, int(seconds))}s"


def seconds_in_words(seconds: float | None) -> str:
    """A duration: 45 s, 12 min, 3.5 h."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def bar(share: float, width: int = BAR_WIDTH) -> Text:
    """A progress bar for a share between 0 and 1."""
    filled = round(min(1.0, max(0.0, share)) * width)
    return Text.assemble(("━" * filled, "green"), ("─" * (width - filled), "bright_black"))


def coloured(word: str) -> Text:
    """A state in its colour."""
    style = "green" if word in _GOOD else "red" if word in _BAD else "yellow"
    return Text(word, style=style)


def facts(rows: Mapping[str, Any]) -> Table:
    """Two columns: what, and how it is. Empty values are left out."""
    table = rows_of("", "")
    for name, value in rows.items():
        if value not in (None, ""):
            table.add_row(Text(name, style="bold"), value if isinstance(value, Text) else str(value))
    return table


def rows_of(*columns: str, title: str | None = None) -> Table:
    """An empty table. What does not fit into a column goes on in its next line: a digest is never cut."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    table.show_header = any(columns)
    return table


def conditions(item: Raw) -> Table:
    """The conditions, each with its reason and sentence."""
    table = rows_of("TYPE", "STATUS", "SINCE", "REASON", "MESSAGE", title="Conditions")
    for condition in item.get("status", {}).get("conditions", ()):
        kind, status = condition["type"], condition["status"]
        if kind in _NEUTRAL:
            shown = Text(status)
        else:
            good = (status == "True") != (kind in _FAULTS_WHEN_TRUE)
            shown = Text(status, style="green" if good else "red")
        table.add_row(kind, shown, age(condition.get("lastTransitionTime")), condition["reason"], condition["message"])
    return table


def events(found: Sequence[Raw]) -> Table:
    """The newest events, oldest first."""
    table = rows_of("AGE", "TIMES", "REASON", "MESSAGE", title="Events")
    for event in found[-NEWEST_EVENTS:]:
        style = "yellow" if event.get("type") == "Warning" else ""
        times = (event.get("series") or {}).get("count", 1)
        table.add_row(age(last_seen(event)), str(times), Text(event["reason"], style=style), event.get("note", ""))
    return table


def pod_state(pod: Raw) -> str:
    """The word that kubectl shows for a pod: its phase, or what a container waits for or ended with."""
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    for container in pod.get("status", {}).get("containerStatuses", ()):
        for state in container.get("state", {}).values():
            if state.get("reason"):
                return str(state["reason"])
    return str(pod.get("status", {}).get("phase", "Unknown"))


def page(item: Raw, summary: Mapping[str, Any], *tables: Table) -> RenderableType:
    """Kind and name, the summary, and those tables that have rows."""
    metadata = item["metadata"]
    heading = Text.assemble((item["kind"], "bold cyan"), f" {metadata['namespace']}/", (metadata["name"], "bold"))
    parts: list[RenderableType] = [heading, facts(summary)]
    for table in tables:
        if table.row_count:
            parts += ["", table]
    return Group(*parts)
