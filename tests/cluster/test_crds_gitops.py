"""What Argo CD, Flux and `kubectl apply` do again and again: nothing changes, and a default gives way to Git."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from accepted_custom_resources import POOLS, TEMPLATE
from cluster_fixtures import fresh_namespace, get
from custom_resource_tables import PLURALS, install_crds, service, training
from diffusion_local.cluster import Cluster

SERVER_SIDE = ("--server-side", "--field-manager=flux")
FULL = {
    "training": training(
        spec__workers={"max": 4, "template": TEMPLATE, "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}}},
        spec__pools=POOLS,
        spec__model__denoiser__config={"dropout": 0.0, "norm_eps": 1e-6, "layers_per_block": 1},
        spec__publish={"claim": {"size": 1073741824}},
    ),
    "service": service(
        spec__template=TEMPLATE,
        spec__sampling={"guidanceScale": 2.0, "classes": [{"name": "b", "steps": 4}, {"name": "a", "steps": 50}]},
    ),
}


class Git:
    """Manifests of one namespace, as a pipeline applies them."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace

    def run(self, verb: str, raw: dict[str, Any], *options: str) -> tuple[int, str]:
        """Exit code and words of `kubectl VERB` for the manifest."""
        place = {**raw, "metadata": {**raw["metadata"], "namespace": self._namespace}}
        done = self._cluster.kubectl(verb, *options, "-f", "-", input=json.dumps(place))
        return done.returncode, done.stdout + done.stderr

    def apply(self, raw: dict[str, Any], *options: str) -> str:
        """Apply; AssertionError with kubectl's words where that is refused."""
        code, words = self.run("apply", raw, *options)
        assert code == 0, words
        return words

    def stored(self, raw: dict[str, Any]) -> dict[str, Any]:
        """The object as the API server has it."""
        return get(self._cluster, PLURALS[raw["kind"]], raw["metadata"]["name"], "-n", self._namespace)


@pytest.fixture(scope="module")
def git(control_plane: Cluster) -> Iterator[Git]:
    install_crds(control_plane)
    with fresh_namespace(control_plane) as namespace:
        yield Git(control_plane, namespace)


@pytest.mark.parametrize("raw", FULL.values(), ids=FULL)
def test_applying_the_same_again_changes_nothing(git: Git, raw: dict[str, Any]) -> None:
    git.apply(raw)
    assert "unchanged" in git.apply(raw)
    assert git.run("diff", raw) == (0, "")
    git.apply(raw, *SERVER_SIDE)
    version = git.stored(raw)["metadata"]["resourceVersion"]
    git.apply(raw, *SERVER_SIDE)
    assert git.run("diff", raw, *SERVER_SIDE) == (0, "")
    metadata = git.stored(raw)["metadata"]
    assert (metadata["resourceVersion"], metadata["generation"]) == (version, 1)


def test_a_default_gives_way_to_what_is_applied_later(git: Git) -> None:
    """Nobody owns what the schema filled in: where one of two fields stands, or a list has an order, it must go."""
    plain = training()
    in_steps = {**plain, "spec": {**plain["spec"], "checkpoint": {**plain["spec"]["checkpoint"]}}}
    in_steps["spec"]["checkpoint"]["interval"] = {"steps": 10}
    for raw, interval in ((plain, {"seconds": 300}), (in_steps, {"steps": 10}), (plain, {"seconds": 300})):
        git.apply(raw, *SERVER_SIDE)
        assert git.stored(raw)["spec"]["checkpoint"]["interval"] == interval
    simple, classes = service(), [{"name": "preview", "steps": 4}, {"name": "best", "steps": 50}]
    git.apply(simple, *SERVER_SIDE)
    git.apply({**simple, "spec": {**simple["spec"], "sampling": {"classes": classes}}}, *SERVER_SIDE)
    assert git.stored(simple)["spec"]["sampling"]["classes"] == classes


def test_a_client_that_merges_is_told_how_a_default_goes(git: Git) -> None:
    raw = training()
    git.apply(raw)
    raw["spec"]["checkpoint"]["interval"] = {"steps": 10}
    code, words = git.run("apply", raw)
    assert code != 0
    assert "apply seconds: null with it" in words
    raw["spec"]["checkpoint"]["interval"]["seconds"] = None
    git.apply(raw)
    assert git.stored(raw)["spec"]["checkpoint"]["interval"] == {"steps": 10}
