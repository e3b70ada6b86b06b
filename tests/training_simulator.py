"""A small pure world in which plans for a DiffusionTraining are carried out: API server, Job controller, nodes, agents.

It knows just enough of Kubernetes: a Job keeps one pod for each index and replaces a failed one after a back-off, exit
codes 64 and 93 fail it, deleting it ends its pods. The operator can be killed between any two of its writes; it then
forgets every report. Time is a number that moves when nothing else does.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from diffusion_contract.agent_messages import RouterInstruction
from diffusion_contract.exit_codes import ExitCode
from diffusion_contract.names import ATTEMPT_LABEL
from diffusion_operator.observe.agent_reports import AgentRecord
from diffusion_operator.observe.snapshot import Raw, Snapshot
from diffusion_operator.observe.training_world import members, observe_training, references
from diffusion_operator.plan.plan import Plan, manifest_digest
from diffusion_operator.plan.timestamps import to_timestamp
from diffusion_operator.plan.training import decide_training
from simulated_pods import exit_code, is_found, made_pod
from simulated_trainers import Trainer, Volume, obey, work
from world_builders import OPERATOR, custom_resource

START = datetime(2026, 1, 1, tzinfo=UTC)
BACK_OFF_SECONDS = 10


class OperatorKilled(Exception):
    """The operator lost its memory between two writes."""


@dataclass
class Simulator:
    """The world. `deaths` counts down writes until the operator is killed; None is never.

    `refused`: why the API server would refuse every new Job; empty where it would not. `skew`: how far the operator's
    clock is ahead of everybody else's.
    """

    spec: dict[str, Any]
    now: datetime = START
    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    trainers: dict[str, Trainer] = field(default_factory=dict)
    records: dict[str, AgentRecord] = field(default_factory=dict)
    volume: Volume = field(default_factory=Volume)
    status: dict[str, Any] = field(default_factory=dict)
    generation: int = 1
    deaths: int | None = None
    writes: int = 0
    crashes: int = 0
    serial: int = 0
    log: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    rehearsals: dict[str, str] = field(default_factory=dict)
    refused: str = ""
    skew: timedelta = timedelta()

    # --- the operator ---------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """What the operator's caches hold."""
        raw = custom_resource(self.spec, self.status, self.generation)
        uids = {one["metadata"]["uid"] for one in self.objects.values()} | {name.uid for name in members(raw)}
        return Snapshot(
            custom_resource=raw,
            operator=OPERATOR,
            children=tuple(one for _, one in sorted(self.objects.items()) if is_found(one, uids)),
            nodes=self.nodes,
            referenced={reference: {"kind": "PersistentVolumeClaim"} for reference in references(raw)},
            rehearsals=self.rehearsals,
        )

    def plan(self) -> Plan:
        """What the operator decides now."""
        return decide_training(observe_training(self.snapshot(), self.records), self.now + self.skew)

    def reconcile(self) -> Plan:
        """One pass of the operator; OperatorKilled where `deaths` runs out."""
        plan = self.plan()
        for manifest in plan.apply:
            self._apply(manifest)
        if plan.status is not None and plan.status != self.status:
            self.status = copy.deepcopy(dict(plan.status))
            self.statuses.append(self.status)
            self._written("status")
        for uid, trainer in self.trainers.items():
            if uid in self.records:
                told = plan.instructions.get(uid)
                assert not isinstance(told, RouterInstruction)
                obey(trainer, told)
        self.events.extend(f"{event.reason}: {event.message}" for event in plan.events)
        for reference in plan.delete:
            self._delete(reference.kind, reference.name, reference.uid)
        self.rehearsals = {manifest_digest(manifest): self.refused for manifest in plan.rehearse}
        return plan

    def _written(self, what: str) -> None:
        self.writes += 1
        self.log.append(what)
        if self.deaths is not None:
            self.deaths -= 1
            if self.deaths < 0:
                self.deaths = None
                self.records.clear()
                self.rehearsals.clear()
                raise OperatorKilled

    def _apply(self, manifest: Mapping[str, Any]) -> None:
        key = (manifest["kind"], manifest["metadata"]["name"])
        live = self.objects.get(key)
        wanted = copy.deepcopy(dict(manifest))
        if live is not None and all(live.get(part) == wanted.get(part) for part in wanted if part != "metadata"):
            return
        if live is None:
            wanted["metadata"] |= {"uid": self._uid(), "resourceVersion": "1", "creationTimestamp": self._moment()}
            assert manifest["kind"] != "Job" or not self.refused, "a Job is applied that the API server refuses"
            self.objects[key] = wanted
        else:
            if manifest["kind"] == "Job":
                assert live["spec"]["template"] == wanted["spec"]["template"], "a Job's template cannot change"
            self.objects[key] = live | {part: value for part, value in wanted.items() if part != "metadata"}
        self._written(f"apply {key}")

    def _delete(self, kind: str, name: str, uid: str) -> None:
        live = self.objects.get((kind, name))
        if live is None or live["metadata"]["uid"] != uid:
            return
        for pod in self.pods(name):
            self.end_pod(pod, None)
            self.objects.pop(("Pod", pod["metadata"]["name"]), None)
        del self.objects[(kind, name)]
        self._written(f"delete {kind} {name}")

    # --- Kubernetes -----------------------------------------------------------------------------------------------

    def pods(self, job: str | None = None) -> list[dict[str, Any]]:
        """All pods, or those that one Job owns."""
        found = [one for (kind, _), one in sorted(self.objects.items()) if kind == "Pod"]
        owner = self.objects.get(("Job", job or ""))
        return [pod for pod in found if job is None or (owner and pod["owner"] == owner["metadata"]["uid"])]

    def living(self) -> list[dict[str, Any]]:
        """Pods whose agents run."""
        return [pod for pod in self.pods() if (t := self.trainers.get(pod["metadata"]["uid"])) and t.ended is None]

    def control(self) -> None:
        """One round of the Job controller, the scheduler and the kubelets."""
        for (kind, name), job in list(self.objects.items()):
            if kind == "Job" and not job.get("status", {}).get("conditions"):
                self._control_job(name, job)

    def _control_job(self, name: str, job: dict[str, Any]) -> None:
        pods = self.pods(name)
        codes = [exit_code(pod) for pod in pods]
        indexes = {int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]): pod for pod in pods}
        size = job["spec"]["parallelism"]
        if any(code in (ExitCode.CONFIGURATION_REFUSED, ExitCode.DO_NOT_RETRY) for code in codes):
            job["status"] = {
                "conditions": [{"type": "Failed", "status": "True", "message": "a pod failure policy rule"}]
            }
            return
        for index, pod in indexes.items():
            if index >= size:
                self.end_pod(pod, None)
                self.objects.pop(("Pod", pod["metadata"]["name"]), None)
        for index in range(size):
            self._control_index(name, job, index, indexes.get(index))
        codes = [exit_code(pod) for pod in self.pods(name)]
        job["status"] = {"active": codes.count(None), "succeeded": codes.count(0)}
        if codes.count(0) == size:
            job["status"]["conditions"] = [{"type": "Complete", "status": "True"}]

    def _control_index(self, name: str, job: dict[str, Any], index: int, pod: dict[str, Any] | None) -> None:
        if pod is not None:
            code, ended = exit_code(pod), pod["status"].get("ended")
            if code is None or code == 0 or self.now < ended + timedelta(seconds=BACK_OFF_SECONDS):
                return
            del self.objects[("Pod", pod["metadata"]["name"])]
        uid = self._uid()
        node = self._node_for(job)
        if node is None:
            return
        created = made_pod(job, index, node, uid, self._moment())
        self.objects[("Pod", created["metadata"]["name"])] = created
        if created["status"]["phase"] == "Running":
            target, publishes = self.spec["training"]["targetSteps"], "publish" in self.spec
            self.trainers[uid] = Trainer(uid, int(created["metadata"]["labels"][ATTEMPT_LABEL]), target, publishes)

    def _node_for(self, job: Raw) -> str | None:
        """A node without trouble; a new one appears when there is none, as an autoscaler would see to."""
        fine = [name for name, node in sorted(self.nodes.items()) if not node["spec"].get("taints")]
        if not fine:
            fine = [f"node-{self._uid()}"]
            self.nodes[fine[0]] = {"metadata": {"name": fine[0]}, "spec": {}, "status": {}}
        return fine[int(job["metadata"]["uid"][1:]) % len(fine)]

    def end_pod(self, pod: dict[str, Any], code: int | None, disruption: str = "") -> None:
        """The pod's container ends; None is an end that leaves no container status."""
        uid = pod["metadata"]["uid"]
        trainer = self.trainers.pop(uid, None)
        ended: dict[str, Any] = {"exitCode": code, "finishedAt": self._moment()}
        if trainer is not None and code is not None:
            trainer.ended = code
            ended["message"] = trainer.last_words(self.volume)
        pod["status"] |= {"phase": "Succeeded" if code == 0 else "Failed", "ended": self.now}
        if code is not None:
            pod["status"]["containerStatuses"] = [{"name": "trainer", "state": {"terminated": ended}}]
        if disruption:
            pod["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True", "reason": disruption}]

    def expire(self) -> None:
        """What was announced comes true: pods and nodes whose time is over end."""
        for pod in self.pods():
            if pod.get("ends", self.now) < self.now and pod["status"]["phase"] == "Running":
                self.end_pod(pod, 137)
        for name, node in list(self.nodes.items()):
            if node.get("ends", self.now) < self.now:
                for pod in self.pods():
                    if pod["spec"]["nodeName"] == name and pod["status"]["phase"] == "Running":
                        self.end_pod(pod, 137, "DeletionByPodGC")
                del self.nodes[name]

    # --- agents ---------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Every agent does one thing; whoever left becomes a terminated pod."""
        work(self.trainers, self.volume, self._moment())
        for pod in self.pods():
            trainer = self.trainers.get(pod["metadata"]["uid"])
            if trainer is not None and trainer.ended is not None:
                self.end_pod(pod, trainer.ended)

    def tell(self) -> None:
        """Every agent's poll reaches the operator."""
        for uid, one in self.records.items():
            if uid not in self.trainers and one.connected:
                self.records[uid] = replace(one, connected=False)
        for uid, trainer in self.trainers.items():
            self.records[uid] = AgentRecord(uid, trainer.report(self.volume), self.now + self.skew)

    def _moment(self) -> str:
        return to_timestamp(self.now)

    def _uid(self) -> str:
        self.serial += 1
        return f"u{self.serial}"

    # --- a whole round --------------------------------------------------------------------------------------------

    def round(self, seconds: float = 1.0) -> None:
        """Everybody's turn once, then time passes; an operator that is killed comes back in the next round."""
        self.expire()
        self.control()
        self.tell()
        try:
            self.reconcile()
        except OperatorKilled:
            self.log.append("operator killed")
        self.train()
        self.now += timedelta(seconds=seconds)

    def run(self, rounds: int, until: str = "") -> None:
        """Up to `rounds` rounds, or until the phase is `until`."""
        for _ in range(rounds):
            if until and self.status.get("phase") == until:
                return
            self.round()
