"""Edits of a running training that would take its workers away and start none, against a real API server."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from crash_scenarios import training
from diffusion_contract.agent_messages import TrainerReport
from diffusion_local.cluster import Cluster
from diffusion_operator.kube.resources import TRAINING
from operator_harness import until
from operator_scene import Scene, scene
from scripted_pods import Life, Said, Stage

pytestmark = pytest.mark.timeout(180)


def spread(key):
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
        self.witness, self.transport, self._scene = scene.witness, scene.transport, scene

    def status(self):
        return self._scene.status("DiffusionTraining")

    def jobs(self):
        return self._scene.objects("Job")

    def reason(self):
        return self._scene.reason("DiffusionTraining")

    def trains(self, attempt):
        status = self.status()
        return (status.get("attempt"), status.get("worldSize"), self.reason()) == (attempt, 2, "Training")

    async def edit(self, spec):
        await self._scene.client.merge(TRAINING, self._scene.namespace, "digits", {"spec": spec})


@contextlib.asynccontextmanager
async def trained(cluster: Cluster, namespace: str, **spec) -> AsyncIterator[Trained]:
    async with scene(cluster, namespace, train_for_ever) as stage:
        await stage.create(TRAINING, training("digits", **spec))
        run = Trained(stage)
        await until(lambda: run.trains(1), 60, "two workers that train")
        yield run


async def test_a_training_survives_workers_that_the_api_server_refuses(control_plane, namespace):
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
        jobs = run.jobs()
        assert before.isdisjoint(job["metadata"]["uid"] for job in jobs)
        assert all("a/key" in str(job["spec"]["template"]) for job in jobs)


async def test_a_refused_edit_is_not_rehearsed_again_and_again(control_plane, namespace):
    async with trained(control_plane, namespace) as run:
        await run.edit(spread("not a key/"))
        await until(lambda: run.reason() == "WorkersRefused", 20, "the refusal in the status")
        rehearsed = [write for write in run.transport.writes if "/jobs/digits-base-2-" in write]
        await run.edit({"failurePolicy": {"maxRestarts": 9}})
        await until(lambda: run.status()["observedGeneration"] == 3, 20, "a look at another edit")
        assert [write for write in run.transport.writes if "/jobs/digits-base-2-" in write] == rehearsed
        assert (len(rehearsed), run.reason()) == (1, "WorkersRefused")


async def test_a_renamed_key_of_the_networks_arguments_is_refused_and_the_run_goes_on(control_plane, namespace):
    model = {"denoiser": {"type": "DiT", "config": {"layers": 1}}}
    async with trained(control_plane, namespace, model=model) as run:

        def read():
            objects = run.witness.objects(namespace)
            return [item["data"]["run.json"] for item in objects if "run.json" in item.get("data", {})]

        before = read()
        await run.edit({"model": {"denoiser": {"config": {"layers": None, "depth": 1}}}})
        await until(lambda: run.reason() == "InvalidSpec", 20, "the refusal in the status")
        assert run.status()["message"].startswith("spec.model.denoiser.config: what a training learns cannot be")
        assert read() == before
        await run.edit({"model": {"denoiser": {"config": {"layers": 1, "depth": None}}}})
        await until(lambda: run.trains(1), 20, "the end of the refusal")
