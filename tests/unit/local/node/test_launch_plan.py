"""From a container's spec to what the launcher is told."""

from pathlib import Path
from typing import Any

import pytest

from diffusion_local.node.launch_plan import (
    Bind,
    MountRefused,
    base_environment,
    command_line,
    etc_files,
    hostname_of,
    launch_spec,
    sub_path,
    volume_binds,
)
from diffusion_local.node.machine_files import Image
from node_simulation import plain_pod


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


CLUSTERS = "search n.svc.cluster.local svc.cluster.local cluster.local"


@pytest.mark.parametrize(
    ("spec", "lines", "hosts"),
    [
        ({}, [CLUSTERS, "options ndots:5"], "hosts: files"),
        ({"dnsPolicy": "Default"}, [], "hosts: files"),
        (
            {"dnsConfig": {"searches": ["svc.cluster.local", "far"], "options": [{"name": "ndots", "value": "2"}]}},
            [f"{CLUSTERS} far", "options ndots:2"],
            "hosts: files",
        ),
        (
            {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.0.0.9"], "options": [{"name": "edns0"}]}},
            ["nameserver 10.0.0.9", "options edns0"],
            "hosts: files dns",
        ),
    ],
)
def test_names_are_resolved_as_the_pod_wishes(spec: dict[str, Any], lines: list[str], hosts: str) -> None:
    files = etc_files({"metadata": {"namespace": "n", "name": "p"}, "spec": spec})
    assert files["resolv.conf"].splitlines() == lines
    assert files["nsswitch.conf"].splitlines()[-1] == hosts


def test_a_sub_path_of_an_unknown_variable_is_refused(tmp_path: Path) -> None:
    mounts = [{"name": "a", "mountPath": "/x", "subPathExpr": "$(NAME)/$$(NO)"}]
    with pytest.raises(MountRefused, match="missing value for 'NAME'"):
        volume_binds({"volumeMounts": mounts}, {"a": tmp_path}, set(), {"PATH": "p"})


def test_every_container_finds_the_environment() -> None:
    variables = base_environment("h", "/")
    assert variables["PATH"].split(":")[0].endswith("/bin")
    assert variables["HOSTNAME"] == "h"


def test_the_whole_spec(tmp_path: Path) -> None:
    container = {"name": "c", "workingDir": "/work", "securityContext": {"readOnlyRootFilesystem": True}}
    spec = launch_spec(
        plain_pod(), container, tmp_path, [Bind(tmp_path, "/x", read_only=True)], ["sh"], {"A": "1"}, {"uid": 7}
    )
    assert spec["binds"] == [{"source": str(tmp_path), "target": "/x", "readOnly": True}]
    assert (spec["hostname"], spec["argv"], spec["environment"]) == ("p", ["sh"], {"A": "1"})
    assert (spec["readOnlyRoot"], spec["workingDirectory"]) == (True, "/work")
    assert spec["uid"] == 7
