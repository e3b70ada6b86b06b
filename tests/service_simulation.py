"""A DiffusionService with an API server and controllers of a few lines, so that whole rollouts are stepped in memory.

`Simulation.reconcile` carries a plan out as the loop does. `run_controllers` does what the Deployment controller and
the kubelet would: pods of a revision become ready, unless `broken` says what is wrong with its image or model. Routers
do what they are told by the rule of the real ones, and say so, unless they are `silent`.
"""

import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from custom_resource_tables import schema_of, service
from diffusion_contract.agent_messages import Route, RouterInstruction, RouterReport
from diffusion_contract.api_key_hash import SHAPE
from diffusion_contract.names import REVISION_LABEL, ROLE_LABEL
from diffusion_operator.observe.agent_reports import AgentRecord
from diffusion_operator.observe.operator_facts import OperatorFacts
from diffusion_operator.observe.service_world import ServiceWorld, observe_service, references
from diffusion_operator.observe.snapshot import Reference, Refusal, Snapshot
from diffusion_operator.plan.plan import Plan
from diffusion_operator.plan.service import decide_service
from diffusion_operator.plan.service_routing import DRAIN_SECONDS
from diffusion_operator.plan.training_kind import TRAINING
from diffusion_router.route_book import routes_to_use
from schema_comparison import with_defaults
from world_builders import OPERATOR

START = datetime(2026, 1, 1, tzinfo=UTC)


def model(digit: str, claim: str = "models") -> str:
    """A reference whose digest is `digit` 64 times."""
    return f"pvc://{claim}/digits@sha256:{digit * 64}"


def container_waiting(reason: str, message: str = "") -> dict[str, Any]:
    """A container status that waits for `reason`."""
    return {
        "name": "engine",
        "ready": False,
        "image": "server:1",
        "state": {"waiting": {"reason": reason, "message": message}},
    }


def container_ended(code: int, message: str = "", restarts: int = 3, reason: str = "Error") -> dict[str, Any]:
    """A container status that is backing off after its newest end."""
    ended = {"exitCode": code, "message": message, "reason": reason}
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    return {
        "name": "engine",
        "ready": False,
        "restartCount": restarts,
        "state": waiting,
        "lastState": {"terminated": ended},
    }


@dataclass
class Simulation:
    """One custom resource, its children by (kind, name), and the clock.

    `broken`: container statuses by revision. `silent`: router pods of which this operator hears nothing. `deaf`: those
    that hear nothing from it. `in_force`: where each router sends requests.
    """

    raw: dict[str, Any] = field(default_factory=lambda: stored(service(spec__replicas__min=2)))
    operator: OperatorFacts = OPERATOR
    now: datetime = START
    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    referenced: dict[tuple[str, str], dict[str, Any]] = field(
        default_factory=lambda: {
            ("Secret", "digits-keys"): {"data": {"me": SHAPE}},
            ("PersistentVolumeClaim", "models"): {"metadata": {"name": "models"}},
        }
    )
    broken: dict[str, dict[str, Any]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    deaf: set[str] = field(default_factory=set)
    in_force: dict[str, tuple[Route, ...]] = field(default_factory=dict)
    told: dict[str, RouterInstruction] = field(default_factory=dict)
    reports: dict[str, AgentRecord] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    has_applied: bool = True
    blind: bool = False
    """Whether routers have not found a single engine yet."""
    not_ready: set[str] = field(default_factory=set)
    """Pods whose node is silent, say: the control plane has called them not ready."""
    plans: list[Plan] = field(default_factory=list)
    worlds: list[ServiceWorld] = field(default_factory=list)
    _number: int = 0

    @property
    def status(self) -> dict[str, Any]:
        """The stored status."""
        found: dict[str, Any] = self.raw.get("status", {})
        return found

    def world(self) -> ServiceWorld:
        """The facts as of now."""
        wanted = {ref: self._answer(ref) for ref in references(self.raw)}
        children = tuple(self.objects[key] for key in sorted(self.objects))
        return observe_service(
            Snapshot(
                self.raw,
                self.operator,
                children,
                referenced=wanted,
                refusals=self.refusals,
                has_applied=self.has_applied,
            ),
            self.reports,
        )

    def reconcile(self) -> Plan:
        """One pass: decide, and carry it out."""
        world = self.world()
        plan = decide_service(world, self.now)
        for manifest in plan.apply:
            self._apply(copy.deepcopy(dict(manifest)))
        if plan.status is not None:
            self.raw["status"] = copy.deepcopy(dict(plan.status))
        for reference in plan.delete:
            found = self.objects.get((reference.kind, reference.name))
            if found and found["metadata"]["resourceVersion"] == reference.resource_version:
                del self.objects[(reference.kind, reference.name)]
        told = {uid: said for uid, said in plan.instructions.items() if isinstance(said, RouterInstruction)}
        self.told |= {uid: said for uid, said in told.items() if uid not in self.deaf}
        self._run_routers()
        self.plans.append(plan)
        self.worlds.append(world)
        return plan

    def change(self, **fields: Any) -> None:
        """A user's edit of `spec`: a new generation. A field that is None is taken out."""
        spec = {name: value for name, value in {**self.raw["spec"], **fields}.items() if value is not None}
        self.raw["spec"] = with_defaults(schema_of("DiffusionService")["properties"]["spec"], spec)
        self.raw["metadata"]["generation"] += 1

    def start_broken(self, reference: str, trouble: dict[str, Any]) -> str:
        """Ask for a model whose revision cannot start, and take a step; returns the revision that served before."""
        old: str = self.status["stable"]["revision"]
        self.change(model={"ref": reference})
        self.reconcile()
        self.broken[self.status["candidate"]["revision"]] = trouble
        self.step()
        return old

    def run_controllers(self) -> None:
        """Deployments reach what they ask for, as far as nothing is broken."""
        for key, found in list(self.objects.items()):
            if found["kind"] == "Pod":
                del self.objects[key]
        for found in list(self.objects.values()):
            if found["kind"] == "Deployment":
                self._settle(found)
        self._run_routers()

    def silence(self, router: str) -> None:
        """Cut a router off from the operator, both ways, until `silent` and `deaf` are cleared."""
        self.silent.add(router)
        self.deaf.add(router)

    def routers(self) -> list[str]:
        """The UIDs of the router pods."""
        pods = (found for found in self.objects.values() if found["kind"] == "Pod")
        return [pod["metadata"]["uid"] for pod in pods if pod["metadata"]["labels"][ROLE_LABEL] == "router"]

    def step(self, seconds: float = 1.0) -> Plan:
        """Controllers, time, and a pass."""
        self.run_controllers()
        self.now += timedelta(seconds=seconds)
        return self.reconcile()

    def settle(self, passes: int = 30) -> Plan:
        """Step until nothing changes any more; AssertionError if that never happens."""
        for _ in range(passes):
            before = copy.deepcopy((self.status, sorted(self.objects), self.in_force))
            plan = self.step(DRAIN_SECONDS + 1)
            if before == (self.status, sorted(self.objects), self.in_force) and not plan.delete:
                return plan
        raise AssertionError(f"no rest after {passes} passes: {self.status}")

    def deployments(self, role: str = "engine") -> dict[str, dict[str, Any]]:
        """The Deployments of a role, by revision (empty for routers)."""
        return {
            found["metadata"]["labels"].get(REVISION_LABEL, ""): found
            for found in self.objects.values()
            if found["kind"] == "Deployment" and found["metadata"]["labels"][ROLE_LABEL] == role
        }

    def condition(self, kind: str) -> tuple[str, str, str]:
        """(status, reason, message) of a stored condition."""
        (found,) = [c for c in self.status["conditions"] if c["type"] == kind]
        return found["status"], found["reason"], found["message"]

    def _ready_engines(self) -> dict[str, int]:
        return (
            {}
            if self.blind
            else {
                revision: found.get("status", {}).get("readyReplicas", 0)
                for revision, found in self.deployments().items()
            }
        )

    def _run_routers(self) -> None:
        """Each router goes where it was told to go once it finds an engine there, and reports."""
        ready = self._ready_engines()
        for uid in self.routers():
            now = self.in_force.get(uid, ())
            newest = self.told[uid].routes if uid in self.told else now
            self.in_force[uid] = routes_to_use(now, newest, ready)
        heard = {uid: self.in_force[uid] for uid in self.routers() if uid not in self.silent}
        self.reports = {
            uid: AgentRecord(uid, RouterReport(ready_engines=ready, routed=_revisions(routes)), self.now)
            for uid, routes in heard.items()
        }

    def _answer(self, reference: Reference) -> dict[str, Any] | None:
        return self.referenced.get((reference.kind, reference.name))

    def _apply(self, manifest: dict[str, Any]) -> None:
        key = (manifest["kind"], manifest["metadata"]["name"])
        before = self.objects.get(key, {})
        same = {name: value for name, value in before.items() if name != "status"}
        for name in ("uid", "resourceVersion", "generation"):
            manifest["metadata"][name] = before.get("metadata", {}).get(name, self._next())
        if before and same == manifest:
            return
        manifest["metadata"]["resourceVersion"] = str(self._next())
        manifest["metadata"]["uid"] = str(manifest["metadata"]["uid"])
        manifest["metadata"]["generation"] = self._next()
        self.objects[key] = manifest | ({"status": before["status"]} if "status" in before else {})

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _settle(self, deployment: dict[str, Any]) -> None:
        metadata, wanted = deployment["metadata"], deployment["spec"]["replicas"]
        trouble = self.broken.get(metadata["labels"].get(REVISION_LABEL, "router"))
        ready = 0 if trouble else wanted
        deployment["status"] = {
            "observedGeneration": metadata["generation"],
            "replicas": wanted,
            "updatedReplicas": wanted,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "conditions": [_progressing(deployment, is_whole=ready == wanted)],
        }
        for number in range(wanted):
            name = f"{metadata['name']}-{number}"
            statuses = [trouble] if trouble else [{"name": "main", "ready": True}]
            conditions = [{"type": "Ready", "status": "False" if trouble or name in self.not_ready else "True"}]
            self.objects[("Pod", name)] = {
                "kind": "Pod",
                "apiVersion": "v1",
                "metadata": {"name": name, "uid": name, "labels": metadata["labels"]},
                "status": {"phase": "Running", "containerStatuses": statuses, "conditions": conditions},
            }


def _progressing(deployment: dict[str, Any], *, is_whole: bool) -> dict[str, Any]:
    """The condition by which a Deployment's controller says that it was whole once."""
    whole = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    was_whole = whole in deployment.get("status", {}).get("conditions", ())
    return whole if is_whole or was_whole else {**whole, "reason": "ReplicaSetUpdated"}


def _revisions(routes: tuple[Route, ...]) -> tuple[str, ...]:
    return tuple(route.revision for route in routes)


def stored(raw: dict[str, Any]) -> dict[str, Any]:
    """A custom resource as the API server would store it: with defaults, a UID and a generation."""
    spec = with_defaults(schema_of(raw["kind"])["properties"]["spec"], raw["spec"])
    metadata = {**raw["metadata"], "name": "digits", "namespace": "default", "uid": "uid-1", "generation": 1}
    return {**raw, "metadata": metadata, "spec": spec}


def training_children(raw: dict[str, Any]) -> list[dict[str, Any]]:
    """All that is applied for a stored DiffusionTraining until its Jobs are there."""
    made: dict[tuple[str, str], dict[str, Any]] = {}
    for _ in range(3):
        plan = TRAINING.decide(TRAINING.observe(Snapshot(raw, OPERATOR, tuple(made.values())), {}), START)
        made |= {(one["kind"], one["metadata"]["name"]): copy.deepcopy(dict(one)) for one in plan.apply}
        raw = {**raw, "status": plan.status}
    return list(made.values())
