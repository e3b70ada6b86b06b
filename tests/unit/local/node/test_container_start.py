"""What keeps a container from being started, in a kubelet's words."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from diffusion_local.node.api_client import ApiClient
from diffusion_local.node.attachments import Attachments
from diffusion_local.node.container_start import NotStartable, PodPlace, container_binds, image_of
from diffusion_local.node.log_server import no_log, since_moment, waiting_reason
from diffusion_local.node.machine_files import Images
from diffusion_local.node.volumes import PodVolumes


def test_why_there_is_no_log() -> None:
    status = {
        "initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "ErrImagePull"}}}],
        "containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "PodInitializing"}}}],
    }
    assert [waiting_reason(status, name) for name in "ic"] == ["ErrImagePull", "PodInitializing"]
    assert waiting_reason({"containerStatuses": []}, "debugger") == "ContainerCreating"
    assert (
        no_log("c", "p", "PodInitializing", False) == 'container "c" in pod "p" is waiting to start: PodInitializing\n'
    )
    assert no_log("c", "p", "", True) == 'previous terminated container "c" in pod "p" not found\n'


def test_since() -> None:
    assert since_moment({}, 100.0) is None
    assert since_moment({"sinceSeconds": "40"}, 100.0) == 60.0
    assert since_moment({"sinceTime": "1970-01-01T00:01:00Z"}, 100.0) == 60.0


def place(folder: Path) -> PodPlace:
    pod = {"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {}}
    volumes = PodVolumes(ApiClient("", ssl.create_default_context()), Attachments(), pod, folder)
    volumes.paths = {"v": folder / "v"}
    return PodPlace(folder, "10.0.0.5", volumes)


def targets(container: dict[str, Any], folder: Path) -> dict[str, Path]:
    return {bind.target: bind.source for bind in container_binds({"name": "c", **container}, place(folder), {})}


def test_names_and_the_last_message_are_mounted(tmp_path: Path) -> None:
    found = targets({}, tmp_path)
    assert found["/etc/hosts"] == tmp_path / "etc-hosts"
    assert found["/dev/termination-log"] == tmp_path / "containers/c/termination-log"
    assert "/said" in targets({"terminationMessagePath": "/said"}, tmp_path)


def test_a_hosts_file_of_the_users_own_is_not_covered(tmp_path: Path) -> None:
    mounts = [{"name": "v", "mountPath": "/etc/hosts", "subPath": "hosts"}]
    assert targets({"volumeMounts": mounts}, tmp_path)["/etc/hosts"] == tmp_path / "v/hosts"


def test_a_mount_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    for mount in ({"name": "no", "mountPath": "/x"}, {"name": "v", "mountPath": "/x", "subPathExpr": "$(NO)"}):
        with pytest.raises(NotStartable, match="CreateContainerConfigError"):
            targets({"volumeMounts": [mount]}, tmp_path)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("busybox", "ErrImagePull"),
        ("registry.example:5000/a/b_c/d-e:v1.2@sha256:" + "0" * 64, "ErrImagePull"),
        ("Registry.Example/a", "ErrImagePull"),
        ("a__b/c:1", "ErrImagePull"),
        ("UPPER/Case", "InvalidImageName"),
        ("a:b:c", "InvalidImageName"),
        ("a b", "InvalidImageName"),
        ("a//b", "InvalidImageName"),
        ("a@sha256:12", "InvalidImageName"),
    ],
)
def test_an_image_that_is_not_there_is_told_from_one_that_cannot_be(image: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(NotStartable) as caught:
        image_of(Images(tmp_path / "none"), {"image": image})
    assert caught.value.reason == reason
