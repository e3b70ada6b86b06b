"""What keeps a container from being started, in a kubelet's words."""

from typing import Any

import pytest

from diffusion_local.node.container_start import NotStartable, refuse_root
from diffusion_local.node.log_server import no_log, since_moment
from diffusion_local.node.pod_record import ContainerRecord, Running, Waiting


@pytest.mark.parametrize(
    ("pod", "container"),
    [
        ({"runAsNonRoot": True, "runAsUser": 0}, {}),
        ({"runAsNonRoot": True, "runAsUser": 5}, {"runAsUser": 0}),
        ({"runAsUser": 0}, {"runAsNonRoot": True}),
    ],
)
def test_root_that_may_not_be_root(pod: dict[str, Any], container: dict[str, Any]) -> None:
    with pytest.raises(NotStartable, match=r"CreateContainerConfigError: .*non-root"):
        refuse_root({"spec": {"securityContext": pod}}, {"securityContext": container})


@pytest.mark.parametrize(
    ("pod", "container"),
    [({}, {}), ({"runAsNonRoot": True, "runAsUser": 0}, {"runAsUser": 5}), ({"runAsUser": 0}, {})],
)
def test_others_may_start(pod: dict[str, Any], container: dict[str, Any]) -> None:
    refuse_root({"spec": {"securityContext": pod}}, {"securityContext": container})


def test_why_there_is_no_log() -> None:
    waiting = ContainerRecord(Waiting("ErrImagePull"))
    assert no_log("c", "p", waiting, False) == 'container "c" in pod "p" is waiting to start: ErrImagePull\n'
    assert no_log("c", "p", None, False) == 'container "c" in pod "p" is waiting to start: ContainerCreating\n'
    running = ContainerRecord(Running(0))
    assert no_log("c", "p", running, True) == 'previous terminated container "c" in pod "p" not found\n'


def test_since() -> None:
    assert since_moment({}, 100.0) is None
    assert since_moment({"sinceSeconds": "40"}, 100.0) == 60.0
    assert since_moment({"sinceTime": "1970-01-01T00:01:00Z"}, 100.0) == 60.0
