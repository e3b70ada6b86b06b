"""The whole status of a DiffusionTraining, as it is to be stored.

It is made anew in every pass from the outlook and nothing else, so it holds no time but those of things that happened:
a pass that learns nothing new yields the very status that is stored, and writes nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from diffusion_contract.names import RENDEZVOUS_PORT, RENDEZVOUS_PORTS
from diffusion_operator.observe.raw_values import mappings_at
from diffusion_operator.observe.training_history import Preemption, Rendezvous
from diffusion_operator.observe.training_world import TrainingWorld
from diffusion_operator.plan.conditions import MESSAGE_LIMIT, kstatus, stamped
from diffusion_operator.plan.training_conditions import training_conditions
from diffusion_operator.plan.training_identity import identity
from diffusion_operator.plan.training_phase import Outlook, Verdict, ready_workers
from diffusion_operator.plan.training_preemptions import preemptions
from diffusion_operator.plan.training_progress import Learned, progress


def training_status(outlook: Outlook, verdict: Verdict) -> dict[str, Any]:
    """The status to store; progress is in it unthrottled."""
    world, spec, learned = outlook.world, outlook.training.spec, outlook.learned
    rendezvous = outlook.rendezvous
    size, most = ready_workers(outlook), spec.workers.max
    conditions = (
        *kstatus(verdict.health, verdict.reason, verdict.message),
        *training_conditions(outlook, verdict),
    )
    position = progress(
        world, learned, spec.training.target_steps, spec.training.global_batch_size, bool(rendezvous.members)
    )
    steps_back = None if outlook.attempt == world.history.attempt else _steps_back(position, learned)
    entries = preemptions(world, rendezvous, outlook.restarts, steps_back, outlook.now)
    status: dict[str, Any] = {
        "observedGeneration": world.generation,
        "phase": verdict.phase,
        "message": verdict.message[:MESSAGE_LIMIT],
        "conditions": stamped(conditions, stored_conditions(world.history.raw), world.generation, outlook.now),
        "progress": position,
        "attempt": outlook.attempt,
        "identity": identity(world, outlook.training),
        "generation": rendezvous.generation,
        "worldSize": sum(member.processes for member in rendezvous.members),
        "workers": {"ready": size, "desired": most, "display": f"{size}/{most}"},
        "rendezvous": rendezvous_status(rendezvous),
        "restarts": _restarts(outlook),
        "checkpoint": _checkpoint(learned),
        "preemptions": [_preemption(entry) for entry in entries],
        "recordedPods": _recorded(outlook, entries),
        "retry": world.retry or None,
        "published": learned.published.to_wire() if learned.published else None,
    }
    return {name: value for name, value in status.items() if value not in (None, [], {})}


def _steps_back(position: Mapping[str, Any], learned: Learned) -> int:
    """How many of the steps that were made no checkpoint holds."""
    committed = learned.committed.step if learned.committed else 0
    return max(0, int(position["step"]) - committed)


def stored_conditions(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The conditions of a stored status."""
    return list(mappings_at(status, "conditions"))


def rendezvous_status(rendezvous: Rendezvous) -> dict[str, Any]:
    """`status.rendezvous`: all that an instruction is made from, besides attempt and generation."""
    stored: dict[str, Any] = {
        "members": [
            {
                "pod": member.pod,
                "uid": member.uid,
                "address": member.address,
                "processes": member.processes,
                "node": member.node,
            }
            for member in rendezvous.members
        ],
        "masterAddress": rendezvous.members[0].address if rendezvous.members else None,
        "masterPort": master_port(rendezvous.generation) if rendezvous.members else None,
        "resumeStep": rendezvous.resume_step,
        "leaving": list(rendezvous.leaving),
        "stop": rendezvous.stop,
        "stopSince": rendezvous.stop_since,
        "why": rendezvous.why,
    }
    return {name: value for name, value in stored.items() if value not in (None, "", [])}


def master_port(generation: int) -> int:
    """The port of a generation's store; a generation never meets the store of the one before."""
    return RENDEZVOUS_PORT + generation % RENDEZVOUS_PORTS


def _recorded(outlook: Outlook, entries: Sequence[Preemption]) -> list[str]:
    """Counted pods that could be counted again. Those of an attempt that is over are not looked at any more."""
    recorded = outlook.restarts.recorded
    if outlook.attempt != outlook.world.history.attempt:
        recorded &= {entry.uid for entry in entries}
    return sorted(recorded)


def _restarts(outlook: Outlook) -> dict[str, Any]:
    restarts = outlook.restarts
    counters: dict[str, Any] = {"counted": restarts.counted, "disruptions": restarts.disruptions}
    same_attempt = outlook.attempt == outlook.world.history.attempt
    more = {
        "lastCrashGeneration": restarts.crash_generation if same_attempt else None,
        "noProgress": outlook.no_progress or None,
        "lastCrashTime": restarts.last_crash,
        "nextAttemptTime": outlook.next_attempt_time,
    }
    return counters | {name: value for name, value in more.items() if value not in (None, "")}


def _checkpoint(learned: Learned) -> dict[str, Any]:
    found = {
        "lastCommitted": learned.committed.to_wire() if learned.committed else None,
        "lastVerified": learned.verified.to_wire() if learned.verified else None,
        "saveSecondsP99": learned.save_seconds,
        "skipped": [one.to_wire() for one in learned.skipped],
    }
    return {name: value for name, value in found.items() if value not in (None, [])}


def _preemption(entry: Preemption) -> dict[str, Any]:
    stored = {
        "time": entry.time,
        "pod": entry.pod,
        "uid": entry.uid,
        "node": entry.node,
        "source": entry.source,
        "generation": entry.generation,
        "noticeSeconds": entry.notice_seconds,
        "lostSteps": entry.lost_steps,
        "recoverySeconds": entry.recovery_seconds,
    }
    return {name: value for name, value in stored.items() if value is not None}


def refused_status(world: TrainingWorld, message: str, now: datetime) -> dict[str, Any]:
    """A status that keeps all that is stored and changes only what it says about the spec."""
    stored, conditions = stored_conditions(world.history.raw), kstatus("Stalled", "InvalidSpec", message)
    others = [one for one in stored if one.get("type") not in {condition.type for condition in conditions}]
    return {
        "phase": "Pending",
        **world.history.raw,
        "observedGeneration": world.generation,
        "message": message[:MESSAGE_LIMIT],
        "conditions": [*stamped(conditions, stored, world.generation, now), *others],
    }
