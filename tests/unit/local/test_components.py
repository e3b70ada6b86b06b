"""Command lines of the control plane."""

from pathlib import Path

import pytest

from diffusion_local import components
from diffusion_local.options import ClusterOptions
from diffusion_local.state import StateFolder

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def options(**more: object) -> ClusterOptions:
    return ClusterOptions.model_validate({"programs": {name: f"/bin/{name}" for name in PROGRAMS}, **more})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StateFolder:
    state = StateFolder(tmp_path_factory.mktemp("c") / "c")
    state.create()
    return state


@pytest.fixture(scope="module")
def credentials(folder: StateFolder) -> components.Credentials:
    return components.issue_credentials(folder, "default", 12345)


def test_tokens_are_real_and_nodes_are_authorized_as_nodes(
    folder: StateFolder, credentials: components.Credentials
) -> None:
    command = components.api_server(options(), folder, credentials)
    assert "--authorization-mode=Node,RBAC" in command
    assert "--endpoint-reconciler-type=none" in command
    assert not any("disable-admission" in flag for flag in command)
    assert any(flag.startswith("--advertise-address=10.244.") for flag in command)


def test_gang_scheduling_is_switched_on_in_both_programs_or_in_none(
    folder: StateFolder, credentials: components.Credentials
) -> None:
    for gang in (False, True):
        server = components.api_server(options(gang=gang), folder, credentials)
        scheduler = components.scheduler(options(gang=gang), folder)
        assert (components.GANG_GATE in server) is (components.GANG_GATE in scheduler) is gang
        assert any("v1beta1" in flag for flag in server) is gang


def test_a_lost_node_is_noticed_after_the_grace_that_was_asked_for(
    folder: StateFolder, credentials: components.Credentials
) -> None:
    command = components.controller_manager(options(node_monitor_grace_seconds=20), folder, credentials)
    assert "--node-monitor-grace-period=20s" in command


def test_the_administrator_comes_from_outside_and_components_from_inside(
    folder: StateFolder, credentials: components.Credentials
) -> None:
    assert "https://127.0.0.1:12345" in folder.kubeconfig.read_text()
    assert components.API_URL in (folder.certificates / "kube-scheduler.kubeconfig").read_text()


def test_every_file_that_a_command_line_names_exists(folder: StateFolder, credentials: components.Credentials) -> None:
    commands = [
        components.etcd(options(), folder),
        components.api_server(options(), folder, credentials),
        components.controller_manager(options(), folder, credentials),
        components.scheduler(options(), folder),
    ]
    for flag in (part for command in commands for part in command[1:]):
        value = flag.partition("=")[2]
        if value.startswith(str(folder.root)):
            assert Path(value).exists(), flag


def test_what_is_written_for_the_supervisor_is_read_back_as_it_was() -> None:
    wanted = options(
        nodes=3, forward={"namespace": "a", "service": "b", "port": "80"}, images={"i": {"cmd": ["sh", "-c"]}}
    )
    assert ClusterOptions.model_validate_json(wanted.to_json()) == wanted


@pytest.mark.parametrize("more", [{"nodes": -1}, {"spot": 255}, {"node_monitor_grace_seconds": 1}, {"unknown": 1}])
def test_nonsense_is_refused(more: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(more))):
        options(**more)
