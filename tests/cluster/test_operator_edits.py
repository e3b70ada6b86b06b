"""Edits of what runs, against a real API server: bad ones stop nobody, and a volume may grow."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from cluster_fixtures import apply
from crash_scenarios import ROLLED_OUT, condition, training
from diffusion_contract.agent_messages import TrainerReport
from diffusion_local.cluster import Cluster
from diffusion_operator.kube.resources import CLAIM, MODEL_SERVICE, TRAINING
from diffusion_operator.kube.store import Change
from diffusion_operator.kube.transport import MERGE_PATCH
from diffusion_operator.observe.snapshot import Raw
from operator_harness import until
from operator_scene import Scene, scene
from scripted_pods import Life, Said, Stage, serve


def spread(key: str) -> dict[str, Any]:
    """An edit of the template: only the API server knows that some keys are none."""
    selector = {"matchLabels": {key: "x"}}
    constraint = {"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector}
    return {"workers": {"template": {"topologySpreadConstraints": [constraint]}}}


def train_for_ever(life: Life, _stage: Stage) -> Said:
    """A worker that trains until it is told to save and leave."""
    if life.heard is None:
        return Said(TrainerReport(attempt=life.attempt, state="Ready"))
    if life.heard.stop:
        return Said(exit_code=75)
    return Said(TrainerReport(attempt=life.attempt, state="Training", generation=life.heard.generation, step=7))


class Trained:
    """One training on two pools in a scene, whose workers train."""

    def __init__(self, scene: Scene) -> None:
        self.witness, self.transport, self.client, self._scene = scene.witness, scene.transport, scene.client, scene

    def status(self) -> Mapping[str, Any]:
        return self._scene.status("DiffusionTraining")

    def jobs(self) -> list[Raw]:
        return self.objects("Job")

    def objects(self, kind: str) -> list[Raw]:
        return self._scene.objects(kind)

    def reason(self) -> str | None:
        return self._scene.reason("DiffusionTraining")

    def reasons(self, kind: str) -> set[str]:
        """All reasons that the condition `kind` has from now on."""
        seen: set[str] = set()

        def look(change: Change) -> None:
            conditions = (change.new or {}).get("status", {}).get("conditions") or ()
            seen.update(one["reason"] for one in conditions if one["type"] == kind)

        self.witness.store.listeners.append(look)
        return seen

    def trains(self, attempt: int, workers: int = 2) -> bool:
        status = self.status()
        return (status.get("attempt"), status.get("worldSize"), self.reason()) == (attempt, workers, "Training")

    async def edit(self, spec: dict[str, Any]) -> None:
        await self._scene.client.merge(TRAINING, self._scene.namespace, "digits", {"spec": spec})


@contextlib.asynccontextmanager
async def trained(cluster: Cluster, namespace: str, **spec: Any) -> AsyncIterator[Trained]:
    async with scene(cluster, namespace, train_for_ever) as stage:
        await stage.create(TRAINING, training("digits", **spec))
        run = Trained(stage)
        await until(lambda: run.trains(1), 60, "two workers that train")
        yield run


async def test_a_training_survives_workers_that_the_api_server_refuses(control_plane: Cluster, namespace: str) -> None:
    async with trained(control_plane, namespace) as run:
        before = {job["metadata"]["uid"] for job in run.jobs()}
        await run.edit(spread("not a key/"))
        await until(lambda: run.reason() == "WorkersRefused", 20, "the refusal in the status")
        status = run.status()
        assert "spec.template.spec.topologySpreadConstraints[0].labelSelector" in status["message"]
        assert "meanwhile 2 of 2 workers train" in status["message"]
        assert (status["attempt"], status["phase"]) == (1, "Running")
        assert "stop" not in status["rendezvous"]
        await run.edit(spread("a/key"))
        await until(lambda: run.trains(2), 60, "the new workers")
        await until(lambda: not before & {job["metadata"]["uid"] for job in run.jobs()}, 60, "the end of the old Jobs")
        assert all("a/key" in str(job["spec"]["template"]) for job in run.jobs())


async def test_a_refused_edit_is_not_rehearsed_again_and_again(control_plane: Cluster, namespace: str) -> None:
    async with trained(control_plane, namespace) as run:
        await run.edit(spread("not a key/"))
        await until(lambda: run.reason() == "WorkersRefused", 20, "the refusal in the status")
        rehearsed = [write for write in run.transport.writes if "/jobs/digits-base-2-" in write]
        await run.edit({"failurePolicy": {"maxRestarts": 9}})
        await until(lambda: run.status()["observedGeneration"] == 3, 20, "a look at another edit")
        assert [write for write in run.transport.writes if "/jobs/digits-base-2-" in write] == rehearsed
        assert (len(rehearsed), run.reason()) == (1, "WorkersRefused")


async def test_an_edit_that_is_taken_back_leaves_jobs_that_can_be_resized(
    control_plane: Cluster, namespace: str
) -> None:
    labels = {"min": 1, "max": 2, "template": {"labels": {"team": "a"}}}
    async with trained(control_plane, namespace, workers=labels) as run:
        seen = run.reasons("Scheduled")
        await run.edit(spread("not a key/"))
        await until(lambda: run.reason() == "WorkersRefused", 20, "the refusal in the status")
        await run.edit({"workers": {"template": {"topologySpreadConstraints": None}}})
        await until(lambda: run.trains(1), 20, "the end of the refusal")
        base, spot = {"name": "base", "capacity": "OnDemand", "replicas": 2}, {"name": "spot", "capacity": "Spot"}
        await run.edit({"workers": {"max": 3}, "pools": [base, {**spot, "max": 1}]})
        await until(lambda: run.trains(1, workers=3), 60, "a third worker")
        await run.edit({"workers": {"template": {"labels": None}}})
        await until(lambda: run.trains(2, workers=3), 60, "workers without the label")
        assert "Refused" not in seen


async def test_a_renamed_key_of_the_networks_arguments_is_refused_and_the_run_goes_on(
    control_plane: Cluster, namespace: str
) -> None:
    model = {"denoiser": {"type": "DiT", "config": {"layers": 1}}}
    async with trained(control_plane, namespace, model=model) as run:

        def read() -> list[str]:
            objects = run.witness.objects(namespace)
            return [item["data"]["run.json"] for item in objects if "run.json" in item.get("data", {})]

        before = read()
        await run.edit({"model": {"denoiser": {"config": {"layers": None, "depth": 1}}}})
        await until(lambda: run.reason() == "InvalidSpec", 20, "the refusal in the status")
        assert run.status()["message"].startswith("spec.model.denoiser.config: what a training learns cannot be")
        assert read() == before
        await run.edit({"model": {"denoiser": {"config": {"layers": 1, "depth": None}}}})
        await until(lambda: run.trains(1), 20, "the end of the refusal")


async def test_a_service_goes_on_with_its_revision_while_the_api_server_refuses_the_next(
    control_plane: Cluster, namespace: str
) -> None:
    async with scene(control_plane, namespace, serve) as stage:
        for resource, item in ROLLED_OUT.objects:
            await stage.create(resource, item)
        await until(lambda: stage.reason("DiffusionService") == "Serving", 60, "a service that serves")
        before = stage.status("DiffusionService")["stable"]
        await stage.client.merge(MODEL_SERVICE, namespace, "digits", {"spec": spread("not a key/")["workers"]})
        await until(lambda: stage.reason("DiffusionService") == "WriteRefused", 20, "the refusal in the status")
        status = stage.status("DiffusionService")
        assert status["stable"] == before
        assert f"revision {before['revision']} goes on serving" in status["message"]
        assert condition(status, "Available") == "True"
        await stage.client.merge(MODEL_SERVICE, namespace, "digits", {"spec": spread("a/key")["workers"]})
        await until(lambda: stage.status("DiffusionService")["stable"] != before, 60, "the next revision")
        await until(lambda: stage.reason("DiffusionService") == "Serving", 60, "the end of the refusal")


async def test_a_full_volume_may_be_enlarged_by_hand_or_in_the_spec(control_plane: Cluster, namespace: str) -> None:
    apply(control_plane, *growing(namespace, "digits-checkpoints"))
    claim = {"size": "1Gi", "storageClassName": f"growing-{namespace}"}
    async with trained(control_plane, namespace, checkpoint={"storage": {"claim": claim}}) as run:
        path = CLAIM.path(namespace, "digits-checkpoints")

        async def enlarge(size: str) -> None:
            patch = {"spec": {"resources": {"requests": {"storage": size}}}}
            await run.client.call("PATCH", path, {"fieldManager": "someone"}, patch, MERGE_PATCH)

        def size() -> list[str]:
            return [
                item["spec"]["resources"]["requests"]["storage"]
                for item in run.objects("PersistentVolumeClaim")
                if item["metadata"]["name"] == "digits-checkpoints"
            ]

        def is_bound() -> bool:
            claims = run.objects("PersistentVolumeClaim")
            return any(item.get("status", {}).get("phase") == "Bound" for item in claims)

        await until(is_bound, 30, "a volume for the claim")
        await enlarge("2Gi")
        await until(lambda: size() == ["2Gi"], 20, "the larger claim")
        await run.edit({"failurePolicy": {"maxRestarts": 9}})
        await until(lambda: run.status()["observedGeneration"] == 2, 20, "a look at the larger claim")
        assert (size(), run.reason()) == (["2Gi"], "Training")
        assert "Refused" not in str(run.status()["conditions"])
        await run.edit({"checkpoint": {"storage": {"claim": {"size": "3Gi"}}}})
        await until(lambda: size() == ["3Gi"], 20, "the size that the spec asks for now")


def growing(namespace: str, claim: str) -> Iterator[dict[str, Any]]:
    """A class of volumes that may grow, and a volume of it for a claim."""
    name = f"growing-{namespace}"
    yield {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "example.org/none",
        "allowVolumeExpansion": True,
    }
    yield {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": name,
            "capacity": {"storage": "9Gi"},
            "accessModes": ["ReadWriteMany"],
            "claimRef": {"namespace": namespace, "name": claim},
            "nfs": {"server": "nowhere.invalid", "path": "/"},
        },
    }
