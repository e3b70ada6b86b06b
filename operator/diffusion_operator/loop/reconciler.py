"""The one path by which anything changes, for both kinds. The order of its lines is what makes a crash harmless.

Applying comes first, since it can be repeated; then the status, which records; only then is anyone told anything; and
deleting comes after that, when everything that the deleted object was evidence of stands in the status. A rehearsal
stores nothing; it is last, so that a server that cannot answer it holds up nothing else.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from diffusion_contract.agent_messages import Instruction
from diffusion_operator.kube.cluster import REFUSED, Cluster
from diffusion_operator.kube.errors import (
    FINAL_CODES,
    ApiRefusal,
    Conflict,
    KubeError,
    NamespaceEnding,
    NotFound,
    TooManyRequests,
)
from diffusion_operator.kube.failing_writes import FailingWrites
from diffusion_operator.kube.keys import Key
from diffusion_operator.loop.clock import Clock
from diffusion_operator.observe.agent_reports import AgentRecord
from diffusion_operator.observe.snapshot import Raw, Refusal
from diffusion_operator.plan.kind import Kind
from diffusion_operator.plan.plan import Event, Manifest

_log = logging.getLogger(__name__)

SOON = 0.05
"""Seconds until the next look where the cache lags behind our own last write."""


class ReportBook(Protocol):
    """What agents said, and what they are told."""

    def about(self, key: Key) -> Mapping[str, AgentRecord]:
        """The records of the pods of one custom resource, by pod UID."""
        ...

    def answer(self, key: Key, instructions: Mapping[str, Instruction]) -> None:
        """Tell the agents of one custom resource, by pod UID. Whoever is not named is told nothing."""
        ...

    def forget(self, key: Key) -> None:
        """The custom resource is gone."""
        ...


@dataclass(frozen=True)
class Reconciler:
    """Everything that a reconcile needs. `kinds` by the name of the kind.

    `ending`: the UIDs of custom resources whose namespace is being deleted. What is in it goes as it is.
    """

    cluster: Cluster
    kinds: Mapping[str, Kind[Any]]
    reports: ReportBook
    clock: Clock
    failing: FailingWrites = field(default_factory=FailingWrites)
    ending: dict[Key, str] = field(default_factory=dict)

    async def reconcile(self, key: Key) -> float | None:
        """Look, decide, act. Returns the seconds until the next look, or None; raises KubeError to be called again."""
        kind, cluster = self.kinds[key.kind], self.cluster
        snapshot = await cluster.snapshot(key, kind)
        if snapshot is None or "deletionTimestamp" in snapshot.custom_resource["metadata"]:
            self._forget(key)  # The garbage collector takes the children.
            return None
        if cluster.is_behind_our_last_write(key):
            return SOON
        seen = snapshot.custom_resource
        if self.ending.get(key) == seen["metadata"]["uid"]:
            return None
        plan = kind.decide(kind.observe(snapshot, self.reports.about(key)), self.clock.now())
        try:
            applied = [await self._apply(key, manifest) for manifest in plan.apply]
        except NamespaceEnding:
            _log.info("%s is left alone: its namespace is being deleted", _said(key))
            self.ending[key] = seen["metadata"]["uid"]
            return None
        refusals = tuple(refusal for refusal in applied if refusal is not None)
        unread = [refusal for refusal in snapshot.refusals if refusal.is_read]
        is_news = cluster.remember_refusals(key, refusals)
        try:
            if plan.status is not None:
                await cluster.put_status(key, seen, plan.status)
        except NotFound:
            self._forget(key)  # It went while we looked: nobody is left to be told, and what we made goes with it.
            return None
        self.reports.answer(key, plan.instructions)
        for event in plan.events:
            await self._say(seen, event)
        for reference in plan.delete:
            if await cluster.delete(key, reference):
                _log.info("%s: deleted %s %s", _said(key), reference.kind, reference.name)
        if await cluster.rehearse(key, plan.rehearse) or is_news:
            return SOON
        return min(REFUSED, plan.requeue_seconds or REFUSED) if refusals or unread else plan.requeue_seconds

    async def _apply(self, key: Key, manifest: Manifest) -> Refusal | None:
        """Apply one manifest. What the API server refuses for good is a fact for the next pass; the rest goes on."""
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        what = f"{kind} {name}"
        try:
            why = await self.cluster.apply(key, manifest)
        except (Conflict, NamespaceEnding, NotFound, TooManyRequests):
            raise
        except ApiRefusal as refused:
            is_fact = refused.code in FINAL_CODES or (refused.code >= 500 and self.failing.failed(key, what))
            if not is_fact:
                raise
            _log.warning("%s: %s was refused: %s", _said(key), what, refused)
            return Refusal(kind, name, refused.code, refused.message)
        self.failing.succeeded(key, what)
        if why is not None:
            _log.info("%s: applied %s: %s", _said(key), what, why)
        return None

    async def _say(self, about: Raw, event: Event) -> None:
        level = logging.WARNING if event.type == "Warning" else logging.INFO
        metadata = about["metadata"]
        _log.log(level, "%s/%s: %s: %s", metadata["namespace"], metadata["name"], event.reason, event.message)
        try:
            await self.cluster.event(about, event, self.clock.now())
        except KubeError as error:
            # The same sentence stands in the status; an event that is lost must not stop what follows.
            _log.warning("the event %s was not recorded: %s", event.reason, error)

    def _forget(self, key: Key) -> None:
        self.cluster.forget(key)
        self.failing.forget(key)
        self.ending.pop(key, None)
        self.reports.forget(key)


def _said(key: Key) -> str:
    return f"{key.kind} {key.namespace}/{key.name}"
