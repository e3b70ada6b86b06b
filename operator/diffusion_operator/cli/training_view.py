"""A DiffusionTraining for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from diffusion_contract.names import ATTEMPT_LABEL, POOL_LABEL
from diffusion_operator.cli.parts import age, bar, coloured, conditions, events, page, pod_state, rows_of
from diffusion_operator.cli.parts import seconds_in_words as duration
from diffusion_operator.observe.snapshot import Raw


def training_view(item: Raw, pods: Sequence[Raw], found_events: Sequence[Raw]) -> RenderableType:
    """Everything about one training on one page."""
    status = item.get("status", {})
    tables = (_workers(pods, status), _preemptions(status), conditions(item), events(found_events))
    return page(item, _summary(item, status), *tables)


def _summary(item: Raw, status: Mapping[str, Any]) -> Mapping[str, Any]:
    progress = status.get("progress", {})
    restarts = status.get("restarts", {})
    return {
        "Phase": coloured(status.get("phase", "Pending")),
        "Message": status.get("message"),
        "Progress": _progress(progress, item),
        "Loss": f"{progress['loss']:.4f}" if "loss" in progress else None,
        "Speed": f"{progress['samplesPerSecond']:.1f} samples/s" if "samplesPerSecond" in progress else None,
        "Remaining": duration(progress["estimatedRemainingSeconds"])
        if "estimatedRemainingSeconds" in progress
        else None,
        "Workers": status.get("workers", {}).get("display"),
        "Attempt": f"{status.get('attempt', 0)}, generation {status.get('generation', 0)}",
        "Restarts": f"{restarts.get('counted', 0)} counted, {restarts.get('disruptions', 0)} by disruptions",
        "Checkpoint": _checkpoint(status.get("checkpoint", {})),
        "Passed over": _skipped(status.get("checkpoint", {})),
        "Published": status.get("published", {}).get("reference"),
        "Age": age(item["metadata"].get("creationTimestamp")),
    }


def _progress(progress: Mapping[str, Any], item: Raw) -> Text:
    target = progress.get("targetSteps") or item["spec"]["training"]["targetSteps"]
    step = progress.get("step", 0)
    return Text.assemble(bar(step / target), f" {step}/{target} steps ({100 * step // target}%)")


def _checkpoint(checkpoint: Mapping[str, Any]) -> str | None:
    committed, verified = checkpoint.get("lastCommitted"), checkpoint.get("lastVerified")
    if committed is None:
        return "none committed yet"
    proof = f", step {verified['step']} read back and whole" if verified else ""
    return f"step {committed['step']} committed {age(committed.get('time'))} ago{proof}"


def _skipped(checkpoint: Mapping[str, Any]) -> str | None:
    return "; ".join(f"step {entry['step']}: {entry['reason']}" for entry in checkpoint.get("skipped", ())) or None


def _workers(pods: Sequence[Raw], status: Mapping[str, Any]) -> Table:
    members = {member["uid"]: rank for rank, member in enumerate(status.get("rendezvous", {}).get("members", ()))}
    table = rows_of("POD", "POOL", "ATTEMPT", "STATE", "NODE", "IN GENERATION", "AGE", title="Workers")
    for pod in pods:
        metadata, labels = pod["metadata"], pod["metadata"].get("labels", {})
        rank = members.get(metadata["uid"])
        table.add_row(
            metadata["name"],
            labels.get(POOL_LABEL, ""),
            labels.get(ATTEMPT_LABEL, ""),
            coloured(pod_state(pod)),
            pod["spec"].get("nodeName", "-"),
            "-" if rank is None else "master" if rank == 0 else "yes",
            age(metadata.get("creationTimestamp")),
        )
    return table


def _preemptions(status: Mapping[str, Any]) -> Table:
    table = rows_of("AGO", "NODE", "SOURCE", "NOTICE", "STEPS LOST", "GOING ON AFTER", title="Preemptions")
    for entry in status.get("preemptions", ()):
        notice, recovery = entry.get("noticeSeconds"), entry.get("recoverySeconds")
        table.add_row(
            age(entry.get("time")),
            entry.get("node", "-"),
            entry.get("source", "-"),
            "none" if notice is None else f"{notice} s",
            str(entry.get("lostSteps", "-")),
            "-" if recovery is None else f"{recovery:.2f} s",
        )
    return table
