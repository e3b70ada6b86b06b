"""Each example is one that a real API server accepts as it stands, and that trainer and engine would accept too."""

from typing import Any

import pytest

from cluster_fixtures import get
from custom_resource_tables import install_crds
from diffusion_local.cluster import Cluster
from diffusion_operator.api.service_spec import parse_service_spec
from diffusion_operator.api.training_spec import parse_training
from shown_objects import custom_resources, example_files, fenced_yaml

EXAMPLES = example_files() | fenced_yaml()


def spec_of(raw: dict[str, Any]) -> object:
    return parse_training(raw).spec if raw["kind"] == "DiffusionTraining" else parse_service_spec(raw)


@pytest.mark.parametrize("text", EXAMPLES.values(), ids=EXAMPLES)
def test_it_can_be_applied_twice(control_plane: Cluster, namespace: str, text: str) -> None:
    install_crds(control_plane)
    for _ in range(2):
        done = control_plane.kubectl("apply", "--validate=strict", "-n", namespace, "-f", "-", input=text)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
    for raw in custom_resources(text):
        stored = get(control_plane, raw["kind"], raw["metadata"]["name"], "-n", namespace)
        assert spec_of(stored) == spec_of(raw), "what the server filled in is what the operator would assume"


@pytest.mark.parametrize("text", EXAMPLES.values(), ids=EXAMPLES)
def test_its_network_can_be_built(text: str) -> None:
    from diffusion_core.denoisers import check_denoiser

    for raw in custom_resources(text):
        if raw["kind"] == "DiffusionTraining":
            check_denoiser(parse_training(raw).spec.model)


def test_the_service_of_the_quickstart_fits_its_training() -> None:
    training, service = custom_resources(EXAMPLES["quickstart.yaml"])
    run, served = parse_training(training).spec, parse_service_spec(service)
    assert served.model.from_training is not None
    assert served.model.from_training.name == training["metadata"]["name"]
    assert run.publish is not None
    assert (run.diffusion.prediction, served.sampling.sampler) == ("Flow", "Euler")
    assert [pool.capacity for pool in run.pools] == ["OnDemand", "Spot"]
