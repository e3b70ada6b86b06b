"""Volumes that one node alone may use at a time."""

from pathlib import Path
from typing import Any

import pytest

from diffusion_local.node.attachments import AttachedElsewhere, Attachments, is_exclusive, lock_file
from diffusion_local.node.payloads import VolumeNotAttached, VolumeNotReady
from diffusion_local.node.pod_sandbox import trouble


def test_pods_of_one_node_share_a_volume_and_another_node_waits_for_the_last(tmp_path: Path) -> None:
    one, other, volume = Attachments(), Attachments(), tmp_path / "v"
    one.attach(volume, "a")
    one.attach(volume, "a")
    one.attach(volume, "b")
    for user in ("a", "b"):
        with pytest.raises(AttachedElsewhere):
            other.attach(volume, "c")
        one.release(user)
    other.attach(volume, "c")
    with pytest.raises(AttachedElsewhere):
        one.attach(volume, "a")
    other.release("c")
    other.release("c")


def test_the_lock_lies_beside_the_volume(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    volume.mkdir()
    Attachments().attach(volume, "a")
    assert not any(volume.iterdir())
    assert lock_file(volume).parent == tmp_path


@pytest.mark.parametrize(
    ("modes", "exclusive"),
    [
        (["ReadWriteOnce"], True),
        (["ReadWriteOncePod"], True),
        (["ReadWriteMany"], False),
        (["ReadWriteOnce", "ReadOnlyMany"], False),
    ],
)
def test_which_volumes_are_for_one_node(modes: list[str], exclusive: bool) -> None:
    volume: dict[str, Any] = {"spec": {"accessModes": modes}}
    assert is_exclusive(volume) == exclusive


def test_the_event_is_that_of_a_cluster() -> None:
    assert trouble(VolumeNotAttached("Multi-Attach error", "v")) == ("FailedAttachVolume", "Multi-Attach error")
    reason, message = trouble(VolumeNotReady("no", "v"))
    assert (reason, message) == ("FailedMount", 'MountVolume.SetUp failed for volume "v" : no')
