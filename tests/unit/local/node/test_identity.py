"""Whom a container runs as."""

import sys
from pathlib import Path
from typing import Any

import pytest

from diffusion_local.images import default_images
from diffusion_local.node.identity import (
    ONLY_ROOT,
    MappedIds,
    closed_to_others,
    home_of,
    identity,
    program_folders,
    root_refused,
    volume_group,
)
from diffusion_local.node.machine_files import Image

EVERYBODY = MappedIds(((0, 65536),), ((0, 65536),), may_set_groups=True)
OURS = Image(["app"], user=65532)


def who(
    mapped: MappedIds,
    pod: dict[str, Any] | None = None,
    container: dict[str, Any] | None = None,
    image: Image = Image(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    return identity({"spec": {"securityContext": pod}}, {"securityContext": container}, image, mapped)


def test_the_user_that_was_asked_for_where_it_exists() -> None:
    found = who(EVERYBODY, {"runAsUser": 65532, "runAsGroup": 65533, "fsGroup": 7, "supplementalGroups": [8]})
    assert (found["uid"], found["gid"], found["groups"]) == (65532, 65533, [8, 7])


def test_the_container_overrides_the_pod_and_the_group_is_root_by_default() -> None:
    found = who(EVERYBODY, {"runAsUser": 1}, {"runAsUser": 2})
    assert (found["uid"], found["gid"], found["groups"]) == (2, 0, [])


def test_the_user_of_the_image_with_its_group_where_nothing_is_asked() -> None:
    found = who(EVERYBODY, image=OURS)
    assert (found["uid"], found["gid"]) == (65532, 65532)
    assert who(EVERYBODY, {"runAsUser": 65532}, image=OURS)["gid"] == 65532
    assert who(EVERYBODY, {"runAsUser": 5}, image=OURS)["gid"] == 0


def test_a_user_that_does_not_exist_is_ours_without_capabilities() -> None:
    found = who(ONLY_ROOT, {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532})
    assert (found["uid"], found["gid"], found["groups"]) == (None, None, None)
    assert found["capabilities"] == []


@pytest.mark.parametrize("asked", [{"runAsUser": 0, "fsGroup": 0}, {}])
def test_root_keeps_its_capabilities_and_groups_are_left_where_they_may_not_be_set(asked: dict[str, Any]) -> None:
    found = who(ONLY_ROOT, asked)
    assert (found["uid"], found["gid"], found["groups"]) == (0, 0, None)
    assert found["capabilities"]
    assert not found["noNewPrivileges"]


USUAL = 0xA80425FB
"""What runtimes leave to root in a container, as /proc/PID/status shows it."""
ALL = (1 << 41) - 1


@pytest.mark.parametrize(
    ("asked", "mask"),
    [
        ({}, USUAL),
        ({"capabilities": {"drop": ["ALL"]}}, 0),
        ({"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}, 1 << 10),
        ({"capabilities": {"drop": ["KILL", "CAP_CHOWN"], "add": ["SYS_TIME"]}}, (USUAL & ~0x21) | 1 << 25),
        ({"capabilities": {"add": ["ALL"]}}, ALL),
        ({"privileged": True}, ALL),
    ],
)
def test_capabilities_are_those_of_a_runtime_as_the_container_wishes(asked: dict[str, Any], mask: int) -> None:
    assert sum(1 << number for number in who(ONLY_ROOT, None, asked)["capabilities"]) == mask


def test_privileges_may_be_given_up() -> None:
    assert who(ONLY_ROOT, None, {"allowPrivilegeEscalation": False})["noNewPrivileges"]


def test_ids_are_read_from_the_process_table(tmp_path: Path) -> None:
    (tmp_path / "uid_map").write_text("         0       1000          1\n         1     100000      65536\n")
    (tmp_path / "gid_map").write_text("         0       1000          1\n")
    (tmp_path / "setgroups").write_text("deny\n")
    assert MappedIds.here(tmp_path) == MappedIds(((0, 1), (1, 65536)), ((0, 1),), may_set_groups=False)


def test_homes() -> None:
    pod = {"spec": {"securityContext": {"runAsUser": 65532}}}
    assert home_of({"spec": {}}, {}, Image()) == "/root"
    assert home_of({"spec": {}}, {}, OURS) == "/"
    assert home_of(pod, {}, Image()) == "/"
    assert home_of(pod, {"securityContext": {"runAsUser": 0}}, OURS) == "/root"


@pytest.mark.parametrize(
    ("pod", "container", "image", "why"),
    [
        ({"runAsNonRoot": True, "runAsUser": 0}, {}, OURS, "container's runAsUser breaks non-root policy"),
        ({"runAsNonRoot": True, "runAsUser": 5}, {"runAsUser": 0}, OURS, "container's runAsUser breaks"),
        ({"runAsUser": 0}, {"runAsNonRoot": True}, OURS, "container's runAsUser breaks"),
        ({"runAsNonRoot": True}, {}, Image(), 'image will run as root (pod: "p_n(u)", container: c)'),
        ({"runAsNonRoot": True}, {}, OURS, ""),
        ({"runAsNonRoot": True}, {"runAsNonRoot": False}, Image(), ""),
        ({"runAsNonRoot": True, "runAsUser": 0}, {"runAsUser": 5}, Image(), ""),
        ({"runAsUser": 0}, {}, Image(), ""),
        ({}, {}, Image(), ""),
    ],
)
def test_root_that_may_not_be_root(pod: dict[str, Any], container: dict[str, Any], image: Image, why: str) -> None:
    whole = {"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"securityContext": pod}}
    found = root_refused(whole, {"name": "c", "securityContext": container}, image)
    assert why in found
    assert bool(why) == bool(found)


def test_the_group_of_volumes_is_one_that_exists() -> None:
    pod = {"spec": {"securityContext": {"fsGroup": 7}}}
    assert volume_group(pod, EVERYBODY) == 7
    assert volume_group(pod, ONLY_ROOT) is None
    assert volume_group({"spec": {}}, EVERYBODY) is None


def test_the_projects_images_run_as_their_dockerfile_says() -> None:
    text = (Path(__file__).parents[4] / "Dockerfile").read_text()
    users = [line.split()[1] for line in text.splitlines() if line.startswith("USER")]
    ours = [image["user"] for image in default_images().values() if "user" in image]
    assert [f"{user}:{user}" for user in ours] == users


def test_the_checkout_and_the_environment_are_shown() -> None:
    folders = [Path(folder) for folder in program_folders()]
    assert all(any(Path(file).is_relative_to(folder) for folder in folders) for file in (__file__, pytest.__file__))
    assert sys.prefix in map(str, folders)


def test_what_others_may_not_read_is_named_and_what_lies_above_the_folders_does_not_count(tmp_path: Path) -> None:
    program = tmp_path / "closed/shown/bin/program"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    (tmp_path / "closed").chmod(0o700)
    shown = [str(tmp_path / "closed/shown")]
    assert closed_to_others(shown, [str(program)]) is None
    for part, mode in ((program, 0o750), (program.parent, 0o754)):
        before = part.stat().st_mode
        part.chmod(mode)
        assert closed_to_others(shown, [str(program)]) == part
        part.chmod(before)
