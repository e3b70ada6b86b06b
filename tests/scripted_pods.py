"""Pods that live by a script: a kubelet that writes statuses, and agents that report what the script says.

There are no nodes: the API server, the Job, Deployment and garbage controllers are real, everything below is played.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from diffusion_contract.agent_messages import (
    CheckpointReference,
    Instruction,
    PublishedVersion,
    Report,
    RouterInstruction,
    RouterReport,
    TerminationMessage,
    TrainerInstruction,
    TrainerReport,
)
from diffusion_contract.names import ATTEMPT_LABEL, IMAGE_TRIAL_ROLE, POOL_LABEL, ROLE_LABEL, TRAINING_LABEL
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import KubeError
from diffusion_operator.kube.keys import keys_named_by
from diffusion_operator.kube.resources import POD, TRAINING
from diffusion_operator.kube.store import Store
from diffusion_operator.kube.transport import MERGE_PATCH
from diffusion_operator.loop.engine import Engine
from diffusion_operator.observe.snapshot import Raw

COMMITTED = CheckpointReference(step=100, digest="sha256:" + "c" * 64, time="2026-01-01T00:00:00Z")
MODEL_DIGEST = "sha256:" + "d" * 64
_THEN = "2026-01-01T00:00:00Z"


@dataclass
class Life:
    """One pod's life: what its agent knows, and whether its container has ended."""

    pod: Raw
    instruction: Instruction | None = None
    revision: str = ""
    ended: bool = False

    @property
    def attempt(self) -> int:
        """The attempt that the pod belongs to."""
        return int(self.pod["metadata"]["labels"].get(ATTEMPT_LABEL, 0))

    @property
    def pool(self) -> str:
        """The pool that the pod belongs to."""
        return str(self.pod["metadata"]["labels"].get(POOL_LABEL, ""))

    @property
    def heard(self) -> TrainerInstruction | None:
        """The generation that this worker is a member of, if it is one."""
        told, uid = self.instruction, self.pod["metadata"]["uid"]
        if isinstance(told, TrainerInstruction) and uid in {member.uid for member in told.members}:
            return told
        return None


@dataclass(frozen=True)
class Said:
    """What a pod does next: report this, or end with this exit code and last words. Neither: it does not start."""

    report: Report | None = None
    exit_code: int | None = None
    words: TerminationMessage | None = None


Script = Callable[[Life, "Stage"], Said]


@dataclass
class Stage:
    """All pods of a namespace, playing a script. `engine` is the operator that they talk to; None while it is away."""

    client: ApiClient
    store: Store
    namespace: str
    script: Script
    engine: Engine | None = None
    lives: dict[str, Life] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def play(self) -> None:
        """Give every pod that appears a life, until cancelled."""
        try:
            while True:
                for pod in self.store.all(POD):
                    uid = pod["metadata"]["uid"]
                    if pod["metadata"]["namespace"] == self.namespace and uid not in self.lives:
                        self.lives[uid] = Life(pod)
                        self._tasks[uid] = asyncio.create_task(self._live(self.lives[uid]))
                for task in self._tasks.values():
                    if task.done():
                        task.result()
                await asyncio.sleep(0.02)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def of(self, attempt: int, pool: str) -> Life | None:
        """The pod of an attempt and pool, if it has appeared."""
        found = (life for life in self.lives.values() if (life.attempt, life.pool) == (attempt, pool))
        return next(found, None)

    def has_ended(self, life: Life | None) -> bool:
        """Whether the end of a pod stands in the API server, or the pod has gone."""
        if life is None or not self._exists(life):
            return life is not None
        pod = self.store.get(POD, self.namespace, life.pod["metadata"]["name"])
        return pod is not None and pod.get("status", {}).get("phase") in ("Succeeded", "Failed")

    def stored_step(self) -> int:
        """The newest committed step that stands in the status of the namespace's training; -1 is none."""
        for training in self.store.all(TRAINING):
            if training["metadata"]["namespace"] == self.namespace:
                committed = training.get("status", {}).get("checkpoint", {}).get("lastCommitted", {})
                return int(committed.get("step", -1))
        return -1

    async def _live(self, life: Life) -> None:
        running = False
        while self._exists(life):
            said = self.script(life, self)
            if said.exit_code is not None:
                return await self._end(life, said)
            if said.report is not None and not running:
                await self._patch(life, _running(life.pod))
                running = True
            elif said.report is not None:
                await self._report(life, said.report)
            await asyncio.sleep(0.02)
        return None

    def _exists(self, life: Life) -> bool:
        metadata = life.pod["metadata"]
        seen = self.store.get(POD, self.namespace, metadata["name"])
        return seen is not None and seen["metadata"]["uid"] == metadata["uid"]

    async def _report(self, life: Life, report: Report) -> None:
        engine = self.engine
        pod = engine.store.get(POD, self.namespace, life.pod["metadata"]["name"]) if engine else None
        if engine is None or pod is None:
            return
        uid = life.pod["metadata"]["uid"]
        for key in keys_named_by(life.pod):
            answer = await engine.reports.exchange(key, uid, report, life.revision, 0.2, datetime.now(UTC))
            if answer.instruction is not None:
                life.instruction, life.revision = answer.instruction, answer.revision

    async def _end(self, life: Life, said: Said) -> None:
        words = "" if said.words is None else said.words.model_dump_json(by_alias=True, exclude_none=True)
        # The Job controller counts its 10 s before a replacement from this time; the next attempt must come first.
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ended = {"exitCode": said.exit_code, "reason": "Completed" if said.exit_code == 0 else "Error"}
        state = {"terminated": {**ended, "message": words, "startedAt": _THEN, "finishedAt": now}}
        phase = "Succeeded" if said.exit_code == 0 else "Failed"
        life.ended = True
        await self._patch(life, _status(life.pod, phase, state, ready=False))

    async def _patch(self, life: Life, status: Mapping[str, Any]) -> None:
        metadata = life.pod["metadata"]
        path = POD.path(self.namespace, metadata["name"], "status")
        body = {"metadata": {"uid": metadata["uid"]}, "status": status}
        try:
            await self.client.call("PATCH", path, {}, body, MERGE_PATCH)
        except KubeError:
            if self._exists(life):
                raise


def _running(pod: Raw) -> Mapping[str, Any]:
    return _status(pod, "Running", {"running": {"startedAt": _THEN}}, ready=True)


def _status(pod: Raw, phase: str, state: Mapping[str, Any], *, ready: bool) -> Mapping[str, Any]:
    digest = hashlib.sha256(pod["metadata"].get("generateName", "").encode()).digest()
    address = f"10.244.{digest[0]}.{digest[1]}"
    verdict = "True" if ready else "False"
    conditions = [{"type": "PodScheduled", "status": "True"}]
    conditions += [{"type": kind, "status": verdict} for kind in ("Initialized", "ContainersReady", "Ready")]
    statuses = [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": container["image"],
            "ready": ready,
            "started": ready,
            "restartCount": 0,
            "state": state,
        }
        for container in pod["spec"]["containers"]
    ]
    return {
        "phase": phase,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": _THEN,
        "conditions": conditions,
        "containerStatuses": statuses,
    }


def serve(life: Life, stage: Stage) -> Said:
    """Engines and routers that are up at once and stay so; routers find the engines that they are told of.

    Workers are left to the scheduler, which has no nodes.
    """
    if TRAINING_LABEL in life.pod["metadata"]["labels"]:
        return Said()
    told = life.instruction.routes if isinstance(life.instruction, RouterInstruction) else ()
    revisions = tuple(route.revision for route in told)
    return Said(report=RouterReport(ready_engines=dict.fromkeys(revisions, 1), routed=revisions))


def train_through_a_crash(life: Life, stage: Stage) -> Said:
    """The base worker of the first attempt crashes; in the second attempt two workers finish and publish.

    One thing happens after the other, whatever the operator does meanwhile, so that every run has the same history.
    """
    if TRAINING_LABEL not in life.pod["metadata"]["labels"]:
        return serve(life, stage)
    report = TrainerReport(attempt=life.attempt, state="Ready")
    base, heard = stage.of(life.attempt, "base"), life.heard
    if life.pool != "base" and (life.attempt == 1 or base is None or base.heard is None):
        # The spot worker comes after the base worker has been told of its generation, and in the first attempt never.
        return Said(exit_code=75) if life.attempt == 1 and base is not None and base.heard is not None else Said()
    if heard is None:
        return Said(report)
    if life.attempt == 1:
        # Not before the end of the spot worker is there to be counted: nobody looks at that pod in the next attempt.
        return Said(exit_code=1) if stage.has_ended(stage.of(1, "spot")) else Said(report)
    at_work = report.model_copy(update={"state": "Training", "generation": heard.generation, "step": 0})
    if len(heard.members) < 2:
        return Said(at_work)
    if life.pool != "base":
        return Said(exit_code=0) if base is not None and base.ended else Said(at_work)
    if stage.stored_step() < COMMITTED.step:
        return Said(at_work.model_copy(update={"step": 100, "committed": COMMITTED, "verified": COMMITTED}))
    published = PublishedVersion(reference=f"pvc://models/digits@{MODEL_DIGEST}", digest=MODEL_DIGEST, step=100)
    words = TerminationMessage(reason="Finished", step=100, committed=COMMITTED, published=published)
    return Said(exit_code=0, words=words)


def train_through_an_edit(life: Life, stage: Stage) -> Said:
    """The base worker trains until it is told to leave for another image, which was tried; then as after a crash."""
    if life.pod["metadata"]["labels"].get(ROLE_LABEL) == IMAGE_TRIAL_ROLE:
        return Said(exit_code=0)
    heard = life.heard
    if (life.attempt, life.pool) == (1, "spot"):
        base = stage.of(1, "base")
        return Said(exit_code=75) if base is not None and base.ended else Said()
    if (life.attempt, life.pool) != (1, "base") or heard is None:
        return train_through_a_crash(life, stage)
    if heard.stop:
        return Said(exit_code=75)
    return Said(TrainerReport(attempt=1, state="Training", generation=heard.generation, step=0))
