"""From a container's spec to what the launcher is told."""

from pathlib import Path
from typing import Any

import pytest

from diffusion_local.node.launch_plan import (
    Bind,
    MappedIds,
    MountRefused,
    base_environment,
    command_line,
    home_of,
    hostname_of,
    identity,
    launch_spec,
    program_folders,
    sub_path,
    volume_binds,
)
from diffusion_local.node.machine_files import Image
from node_simulation import plain_pod

ONLY_ROOT = MappedIds(((0, 1),), ((0, 1),), may_set_groups=False)
EVERYBODY = MappedIds(((0, 65536),), ((0, 65536),), may_set_groups=True)


def who(
    mapped: MappedIds, pod: dict[str, Any] | None = None, container: dict[str, Any] | None = None
) -> dict[str, Any]:
    return identity({"spec": {"securityContext": pod}}, {"securityContext": container}, mapped)


def test_the_user_that_was_asked_for_where_it_exists() -> None:
    found = who(EVERYBODY, {"runAsUser": 65532, "runAsGroup": 65533, "fsGroup": 7, "supplementalGroups": [8]})
    assert (found["uid"], found["gid"], found["groups"]) == (65532, 65533, [8, 7])
    assert found["dropCapabilities"]


def test_the_container_overrides_the_pod_and_the_group_is_root_by_default() -> None:
    found = who(EVERYBODY, {"runAsUser": 1}, {"runAsUser": 2})
    assert (found["uid"], found["gid"], found["groups"]) == (2, 0, [])


def test_a_user_that_does_not_exist_is_ours_without_capabilities() -> None:
    found = who(ONLY_ROOT, {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532})
    assert (found["uid"], found["gid"], found["groups"]) == (None, None, None)
    assert found["dropCapabilities"]


def test_root_keeps_its_capabilities_and_groups_are_left_where_they_may_not_be_set() -> None:
    found = who(ONLY_ROOT, {"runAsUser": 0, "fsGroup": 0})
    assert (found["uid"], found["gid"], found["groups"]) == (0, 0, None)
    assert not found["dropCapabilities"]


def test_nothing_asked_is_nothing_changed() -> None:
    found = who(ONLY_ROOT)
    assert (found["uid"], found["gid"], found["groups"]) == (None, None, None)
    assert not found["dropCapabilities"]
    assert not found["noNewPrivileges"]


def test_capabilities_and_privileges_may_be_given_up() -> None:
    found = who(ONLY_ROOT, None, {"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": False})
    assert found["dropCapabilities"]
    assert found["noNewPrivileges"]


def test_a_privileged_container_keeps_its_capabilities() -> None:
    assert not who(EVERYBODY, {"runAsUser": 5}, {"privileged": True})["dropCapabilities"]


def test_ids_are_read_from_the_process_table(tmp_path: Path) -> None:
    (tmp_path / "uid_map").write_text("         0       1000          1\n         1     100000      65536\n")
    (tmp_path / "gid_map").write_text("         0       1000          1\n")
    (tmp_path / "setgroups").write_text("deny\n")
    assert MappedIds.here(tmp_path) == MappedIds(((0, 1), (1, 65536)), ((0, 1),), may_set_groups=False)


@pytest.mark.parametrize(
    ("container", "image", "argv"),
    [
        ({}, Image(["app"]), ["app"]),
        ({}, Image(cmd=["sh"]), ["sh"]),
        ({}, Image(["app"], ["--help"]), ["app", "--help"]),
        ({"args": ["-c", "echo $(A)"]}, Image(["sh"]), ["sh", "-c", "echo 1"]),
        ({"args": ["sleep", "60"]}, Image(cmd=["sh"]), ["sleep", "60"]),
        ({"args": ["serve"]}, Image(["app"], ["--help"]), ["app", "serve"]),
        ({"command": ["run", "$(A)"]}, Image(["app"], ["--help"]), ["run", "1"]),
        ({"command": ["run"], "args": ["$$(A)", "$(NO)"]}, Image(cmd=["sh"]), ["run", "$(A)", "$(NO)"]),
    ],
)
def test_commands(container: dict[str, Any], image: Image, argv: list[str]) -> None:
    assert command_line(container, image, {"A": "1"}) == argv


def test_mounts_lie_outer_first_and_know_whether_they_are_read_only(tmp_path: Path) -> None:
    paths = {"a": tmp_path / "a", "b": tmp_path / "b"}
    mounts = [
        {"name": "a", "mountPath": "/data/inner", "readOnly": True},
        {"name": "b", "mountPath": "/etc/config"},
        {"name": "a", "mountPath": "/data"},
    ]
    binds = volume_binds({"volumeMounts": mounts}, paths, {"b"}, {})
    assert binds == [
        Bind(paths["a"], "/data", read_only=False),
        Bind(paths["a"], "/data/inner", read_only=True),
        Bind(paths["b"], "/etc/config", read_only=True),
    ]


def test_sub_paths_are_made_and_may_use_variables(tmp_path: Path) -> None:
    mounts = [{"name": "a", "mountPath": "/x", "subPathExpr": "$(NAME)/y"}]
    (bind,) = volume_binds({"volumeMounts": mounts}, {"a": tmp_path}, set(), {"NAME": "p"})
    assert bind.source == tmp_path / "p/y"
    assert bind.source.is_dir()


@pytest.mark.parametrize("below", ["../out", "a/../../out", "/etc"])
def test_sub_paths_stay_inside(tmp_path: Path, below: str) -> None:
    with pytest.raises(MountRefused):
        sub_path(tmp_path, below)


def test_links_do_not_lead_out_of_a_volume(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "link").symlink_to("/etc")
    with pytest.raises(MountRefused, match="leads out"):
        sub_path(volume, "link")


def test_host_names() -> None:
    pod = plain_pod()
    pod["metadata"]["name"] = "n" * 62 + "-and-more"
    assert hostname_of(pod) == "n" * 62
    pod["spec"]["hostname"] = "chosen"
    assert hostname_of(pod) == "chosen"


def test_homes() -> None:
    assert home_of({"spec": {}}, {}) == "/root"
    assert home_of({"spec": {"securityContext": {"runAsUser": 65532}}}, {}) == "/"
    assert (
        home_of({"spec": {"securityContext": {"runAsUser": 65532}}}, {"securityContext": {"runAsUser": 0}}) == "/root"
    )


def test_a_sub_path_of_an_unknown_variable_is_refused(tmp_path: Path) -> None:
    mounts = [{"name": "a", "mountPath": "/x", "subPathExpr": "$(NAME)/$$(NO)"}]
    with pytest.raises(MountRefused, match="missing value for 'NAME'"):
        volume_binds({"volumeMounts": mounts}, {"a": tmp_path}, set(), {"PATH": "p"})


def test_every_container_finds_the_environment() -> None:
    variables = base_environment("h", "/")
    assert variables["PATH"].split(":")[0].endswith("/bin")
    assert variables["HOSTNAME"] == "h"


def test_the_checkout_and_the_environment_are_shown() -> None:
    folders = [Path(folder) for folder in program_folders()]
    assert all(any(Path(file).is_relative_to(folder) for folder in folders) for file in (__file__, pytest.__file__))


def test_the_whole_spec(tmp_path: Path) -> None:
    container = {"name": "c", "workingDir": "/work", "securityContext": {"readOnlyRootFilesystem": True}}
    spec = launch_spec(plain_pod(), container, tmp_path, [Bind(tmp_path, "/x", read_only=True)], ["sh"], {"A": "1"})
    assert spec["binds"] == [{"source": str(tmp_path), "target": "/x", "readOnly": True}]
    assert (spec["hostname"], spec["argv"], spec["environment"]) == ("p", ["sh"], {"A": "1"})
    assert (spec["readOnlyRoot"], spec["workingDirectory"]) == (True, "/work")
