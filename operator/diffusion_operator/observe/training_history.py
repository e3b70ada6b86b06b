"""What the stored status of a DiffusionTraining says: the operator's only memory.

It is read as tolerantly as it is written strictly: a status that somebody edited by hand must never stop a pass, so
whatever cannot be read counts as not there. Counters never read below zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import ValidationError

from diffusion_contract.agent_messages import CheckpointReference, PublishedVersion
from diffusion_contract.frozen_model import FrozenModel
from diffusion_operator.observe.raw_values import integer_at, mapping_at, mappings_at, text_at, value_at
from diffusion_operator.observe.snapshot import Raw

Document = TypeVar("Document", bound=FrozenModel)

TERMINAL_PHASES = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True)
class StoredMember:
    """A worker of the stored generation, in the order of its ranks."""

    pod: str
    uid: str
    address: str
    processes: int
    node: str = ""


@dataclass(frozen=True)
class Rendezvous:
    """Who trains together, as it is stored and told to the agents.

    `stop`: why everyone is to save and leave, empty while nobody is; `stop_since`: RFC 3339. `why`: the sentence that
    says what this generation came from.
    """

    generation: int = 0
    members: tuple[StoredMember, ...] = ()
    leaving: tuple[str, ...] = ()
    resume_step: int | None = None
    stop: str = ""
    stop_since: str = ""
    why: str = ""

    @property
    def uids(self) -> frozenset[str]:
        """UIDs of the members."""
        return frozenset(member.uid for member in self.members)


@dataclass(frozen=True)
class Preemption:
    """A worker that was taken away. `generation` is the first one without it.

    `lost_steps` and `recovery_seconds` are None until a survivor has told them. Where nobody was left to go on, the
    first is known when the attempt ends, and the second never.
    """

    time: str
    pod: str
    uid: str
    node: str
    source: str
    generation: int
    notice_seconds: int | None = None
    lost_steps: int | None = None
    recovery_seconds: float | None = None


@dataclass(frozen=True)
class TrainingHistory:
    """The stored status. `attempt` is 0 before the first status; `raw` is the status as it is stored.

    `identity`: digest of what the run learns, as it was when the run began; empty before that. `retry`: the annotation
    `diffusion.dev/retry` as it was last seen.
    """

    phase: str = ""
    attempt: int = 0
    identity: str = ""
    rendezvous: Rendezvous = field(default_factory=Rendezvous)
    counted: int = 0
    disruptions: int = 0
    recorded: frozenset[str] = frozenset()
    last_crash: str = ""
    crash_generation: int | None = None
    no_progress: int = 0
    next_attempt_time: str = ""
    committed: CheckpointReference | None = None
    verified: CheckpointReference | None = None
    save_seconds: float | None = None
    published: PublishedVersion | None = None
    preemptions: tuple[Preemption, ...] = ()
    retry: str = ""
    raw: Raw = field(default_factory=lambda: MappingProxyType({}))

    @property
    def terminal(self) -> bool:
        """Whether the run has ended; nothing changes that."""
        return self.phase in TERMINAL_PHASES


def read_history(custom_resource: Raw) -> TrainingHistory:
    """The stored status of `custom_resource`."""
    status = mapping_at(custom_resource, "status")
    return TrainingHistory(
        phase=text_at(status, "phase"),
        attempt=_counter(status, "attempt"),
        identity=text_at(status, "identity"),
        rendezvous=_rendezvous(status),
        counted=_counter(status, "restarts", "counted"),
        disruptions=_counter(status, "restarts", "disruptions"),
        recorded=frozenset(_texts(status, "recordedPods")),
        last_crash=text_at(status, "restarts", "lastCrashTime"),
        crash_generation=integer_at(status, "restarts", "lastCrashGeneration"),
        no_progress=_counter(status, "restarts", "noProgress"),
        next_attempt_time=text_at(status, "restarts", "nextAttemptTime"),
        committed=_checkpoint(status, "lastCommitted"),
        verified=_checkpoint(status, "lastVerified"),
        save_seconds=_seconds(mapping_at(status, "checkpoint").get("saveSecondsP99")),
        published=_published(status),
        retry=text_at(status, "retry"),
        preemptions=tuple(_preemption(entry) for entry in mappings_at(status, "preemptions")),
        raw=status,
    )


def _counter(status: Raw, *path: str) -> int:
    return max(integer_at(status, *path) or 0, 0)


def _texts(stored: Raw, name: str) -> tuple[str, ...]:
    found = value_at(stored, name)
    return tuple(text for text in found if isinstance(text, str)) if isinstance(found, list) else ()


def _rendezvous(status: Raw) -> Rendezvous:
    stored = mapping_at(status, "rendezvous")
    return Rendezvous(
        generation=_counter(status, "generation"),
        members=tuple(_member(entry) for entry in mappings_at(stored, "members") if text_at(entry, "uid")),
        leaving=_texts(stored, "leaving"),
        resume_step=integer_at(stored, "resumeStep"),
        stop=text_at(stored, "stop"),
        stop_since=text_at(stored, "stopSince"),
        why=text_at(stored, "why"),
    )


def _member(entry: Raw) -> StoredMember:
    return StoredMember(
        pod=text_at(entry, "pod"),
        uid=text_at(entry, "uid"),
        address=text_at(entry, "address"),
        processes=max(integer_at(entry, "processes") or 1, 1),
        node=text_at(entry, "node"),
    )


def _preemption(entry: Raw) -> Preemption:
    return Preemption(
        time=text_at(entry, "time"),
        pod=text_at(entry, "pod"),
        uid=text_at(entry, "uid"),
        node=text_at(entry, "node"),
        source=text_at(entry, "source"),
        generation=_counter(entry, "generation"),
        notice_seconds=integer_at(entry, "noticeSeconds"),
        lost_steps=integer_at(entry, "lostSteps"),
        recovery_seconds=_seconds(entry.get("recoverySeconds")),
    )


def _seconds(stored: object) -> float | None:
    return float(stored) if isinstance(stored, int | float) and not isinstance(stored, bool) else None


def _checkpoint(status: Raw, name: str) -> CheckpointReference | None:
    return _parsed(CheckpointReference, mapping_at(status, "checkpoint", name))


def _published(status: Raw) -> PublishedVersion | None:
    return _parsed(PublishedVersion, mapping_at(status, "published"))


def _parsed(document: type[Document], stored: Mapping[str, Any]) -> Document | None:
    try:
        return document.model_validate(stored) if stored else None
    except ValidationError:
        return None
