"""What the loop must know about a kind of custom resource: its name, and pure functions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from diffusion_operator.observe.agent_reports import AgentRecord
from diffusion_operator.observe.snapshot import PodName, Raw, Reference, Snapshot
from diffusion_operator.plan.plan import Plan

World = TypeVar("World")


@dataclass(frozen=True)
class Kind(Generic[World]):
    """One kind of the group diffusion.dev.

    `observe`: raw objects and agents' reports (by pod UID) to named facts. `decide`: facts and the time (aware, UTC)
    to a plan; total, so it never raises on anything that the API server can store. `references`: the objects besides
    children that `observe` wants to see in `Snapshot.referenced`; it must accept a spec that makes no sense.
    `members`: pods that the status names, whoever owns them now: what is looked for there is not gone because a Job
    between is. `short_of_pods`: UIDs of the children whose events `observe` wants to see in
    `Snapshot.creation_failures`.
    """

    kind: str
    observe: Callable[[Snapshot, Mapping[str, AgentRecord]], World]
    decide: Callable[[World, datetime], Plan]
    references: Callable[[Raw], tuple[Reference, ...]]
    members: Callable[[Raw], tuple[PodName, ...]] = lambda _: ()
    short_of_pods: Callable[[tuple[Raw, ...]], tuple[str, ...]] = lambda _: ()
