"""Edits of a running training that would take its workers away and start none, against a real API server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from crash_scenarios import status_of, training
from custom_resource_tables import install_crds
from diffusion_contract.agent_messages import TrainerReport
from diffusion_local.cluster import Cluster
from diffusion_operator.kube.resources import TRAINING
from diffusion_operator.loop.kinds import KINDS
from operator_harness import Bench, Witness, client_for, until
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


class Scene:
    """One training on two pools with an operator at work."""

    def __init__(self, client, witness, transport, namespace):
        self.client, self.witness, self.transport, self.namespace = client, witness, transport, namespace

    def status(self):
        return status_of(self.witness.objects(self.namespace), "DiffusionTraining")

    def jobs(self):
        return [item for item in self.witness.objects(self.namespace) if item["kind"] == "Job"]

    def reason(self):
        return next((c["reason"] for c in self.status().get("conditions", ()) if c["type"] == "Ready"), "")

    def trains(self, attempt):
        status = self.status()
        return (status.get("attempt"), status.get("worldSize"), self.reason()) == (attempt, 2, "Training")

    async def edit(self, spec):
        await self.client.merge(TRAINING, self.namespace, "digits", {"spec": spec})


@contextlib.asynccontextmanager
async def trained(cluster: Cluster, namespace: str, **spec) -> AsyncIterator[Scene]:
    install_crds(cluster)
    client = client_for(cluster.kubeconfig)
    try:
        async with (
            Witness(client_for(cluster.kubeconfig)).watching() as witness,
            Bench(cluster.kubeconfig, KINDS, namespace).operator() as (engine, transport),
        ):
            playing = asyncio.create_task(Stage(client, witness.store, namespace, train_for_ever, engine).play())
            try:
                item = training("digits", **spec)
                await client.create(TRAINING, {**item, "metadata": {"name": "digits", "namespace": namespace}})
                scene = Scene(client, witness, transport, namespace)
                await until(lambda: scene.trains(1), 60, "two workers that train")
                yield scene
            finally:
                playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)
    finally:
        await client.transport.close()


async def test_a_training_survives_workers_that_the_api_server_refuses(control_plane, namespace):
    async with trained(control_plane, namespace) as scene:
        before = {job["metadata"]["uid"] for job in scene.jobs()}
        await scene.edit(spread("not a key/"))
        await until(lambda: scene.reason() == "WorkersRefused", 20, "the refusal in the status")
        status = scene.status()
        assert "spec.template.spec.topologySpreadConstraints[0].labelSelector" in status["message"]
        assert "meanwhile 2 of 2 workers train" in status["message"]
        assert (status["attempt"], status["phase"]) == (1, "Running")
        assert "stop" not in status["rendezvous"]
        await scene.edit(spread("a/key"))
        await until(lambda: scene.trains(2), 60, "the new workers")
        jobs = scene.jobs()
        assert before.isdisjoint(job["metadata"]["uid"] for job in jobs)
        assert all("a/key" in str(job["spec"]["template"]) for job in jobs)


async def test_a_refused_edit_is_not_rehearsed_again_and_again(control_plane, namespace):
    async with trained(control_plane, namespace) as scene:
        await scene.edit(spread("not a key/"))
        await until(lambda: scene.reason() == "WorkersRefused", 20, "the refusal in the status")
        rehearsed = [write for write in scene.transport.writes if "/jobs/digits-base-2-" in write]
        await scene.edit({"failurePolicy": {"maxRestarts": 9}})
        await until(lambda: scene.status()["observedGeneration"] == 3, 20, "a look at another edit")
        assert [write for write in scene.transport.writes if "/jobs/digits-base-2-" in write] == rehearsed
        assert (len(rehearsed), scene.reason()) == (1, "WorkersRefused")


async def test_a_renamed_key_of_the_networks_arguments_is_refused_and_the_run_goes_on(control_plane, namespace):
    model = {"denoiser": {"type": "DiT", "config": {"layers": 1}}}
    async with trained(control_plane, namespace, model=model) as scene:

        def read():
            objects = scene.witness.objects(namespace)
            return [item["data"]["run.json"] for item in objects if "run.json" in item.get("data", {})]

        before = read()
        await scene.edit({"model": {"denoiser": {"config": {"layers": None, "depth": 1}}}})
        await until(lambda: scene.reason() == "InvalidSpec", 20, "the refusal in the status")
        assert scene.status()["message"].startswith("spec.model.denoiser.config: what a training learns cannot be")
        assert read() == before
        await scene.edit({"model": {"denoiser": {"config": {"layers": 1, "depth": None}}}})
        await until(lambda: scene.trains(1), 20, "the end of the refusal")
