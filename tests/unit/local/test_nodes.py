"""How nodes come, and leave when their agents answer late, refuse, or take no orders; the agents are stand-ins."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from diffusion_local import nodes
from diffusion_local.certificates import Authority, KeyPair
from diffusion_local.errors import LocalClusterError
from diffusion_local.node.api_client import ApiClient
from diffusion_local.node_orders import NodeIdentity
from diffusion_local.nodes import Nodes
from diffusion_local.state import StateFolder

PAIR = KeyPair(Path("c"), Path("k"))
DEADLINE_SECONDS = 60.0


class Deletions(ApiClient):
    """In place of the API server: remembers what was asked of it, and answers with one Node."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.node: dict[str, Any] = {}

    async def request(self, method: str, path: str, *_: object, **__: object) -> dict[str, Any]:
        self.asked.append(f"{method} {path}")
        return self.node


class Machines(Nodes):
    """Nodes whose agents are `sleep`, and answer orders with `answer`; None lets them stay silent."""

    def __init__(self, folder: StateFolder, answer: dict[str, Any] | None) -> None:
        self.api = Deletions()
        self.boots: list[asyncio.subprocess.Process] = []
        self.answer = answer
        self.full_disks = 0
        """How many boots are to fail."""
        super().__init__(folder, cast(Authority, None), PAIR, self.api, 12)

    async def _boot(self, node: NodeIdentity) -> asyncio.subprocess.Process:
        if self.full_disks:
            self.full_disks -= 1
            raise OSError("No space left on device")
        process = await asyncio.create_subprocess_exec("sleep", "100")
        self.boots.append(process)
        self._processes[node.name] = process
        return process

    async def end(self) -> None:
        """Boot nothing any more, and end what was booted."""
        for task in [*self._keepers.values(), *self._departures.values()]:
            task.cancel()
        for process in self.boots:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def serve(self, name: str) -> asyncio.Server:
        """Take orders for the node."""

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            if self.answer is not None:
                writer.write(json.dumps(self.answer).encode() + b"\n")
            await reader.read()
            writer.close()

        path = self._folder.node_socket(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return await asyncio.start_unix_server(take, path)


async def until(predicate: Callable[[], object], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
    while not predicate():
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.01)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run `body(machines)` with one spot node, spot-1; nothing waits as long as in life."""
    monkeypatch.setattr(nodes, "RETRY_SECONDS", 0.01)

    def run(body: Callable[[Machines], Awaitable[None]], answer: dict[str, Any] | None, takes_orders: bool) -> None:
        async def story() -> None:
            monkeypatch.setattr(nodes, "ORDER_SECONDS", 0.1 if answer is None else DEADLINE_SECONDS)
            machines = Machines(StateFolder(tmp_path), answer)
            server = await machines.serve("spot-1") if takes_orders else None
            try:
                await machines.add(None, spot=True, gpus=0)
                await body(machines)
            finally:
                await machines.end()
                if server is not None:
                    server.close()

        asyncio.run(asyncio.wait_for(story(), 120))

    return run


def test_a_node_that_cannot_give_its_notice_yet_goes_all_the_same_and_is_not_booted_again(
    run: Callable[..., None],
) -> None:
    async def body(machines: Machines) -> None:
        assert await machines.preempt("spot-1", 15) is False
        with pytest.raises(LocalClusterError, match="spot-1 is leaving already"):
            await machines.preempt("spot-1", 15)
        machines.boots[0].terminate()
        await until(lambda: machines.api.asked, "the deletion of the Node")
        await asyncio.wait_for(machines._departures["spot-1"], DEADLINE_SECONDS)
        assert machines.api.asked == ["DELETE /api/v1/nodes/spot-1"]
        assert len(machines.boots) == 1
        assert machines.running() == {"spot-1": False}

    run(body, answer=None, takes_orders=True)


def test_a_notice_that_stands_is_told(run: Callable[..., None]) -> None:
    async def body(machines: Machines) -> None:
        assert await machines.preempt("spot-1", 15) is True

    run(body, answer={"result": {"announced": True}}, takes_orders=True)


def test_a_notice_that_does_not_stand_yet_is_told_by_the_node_that_goes(run: Callable[..., None]) -> None:
    async def body(machines: Machines) -> None:
        assert await machines.preempt("spot-1", 15) is False

    run(body, answer={"result": {"announced": False}}, takes_orders=True)


@pytest.mark.parametrize(
    ("answer", "takes_orders", "reason"),
    [({"error": "not now"}, True, "node spot-1: not now"), (None, False, "node spot-1 does not take orders")],
)
def test_a_node_that_was_not_told_stays_and_boots_again_after_a_crash(
    run: Callable[..., None], answer: dict[str, Any] | None, takes_orders: bool, reason: str
) -> None:
    async def body(machines: Machines) -> None:
        with pytest.raises(LocalClusterError, match=reason):
            await machines.preempt("spot-1", 15)
        machines.boots[0].terminate()
        await until(lambda: len(machines.boots) == 2, "the next boot")
        assert not machines.api.asked
        assert machines.running() == {"spot-1": True}

    run(body, answer=answer, takes_orders=takes_orders)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 1e6])
def test_a_notice_that_no_clock_can_wait_for_is_refused(run: Callable[..., None], seconds: float) -> None:
    async def body(machines: Machines) -> None:
        with pytest.raises(LocalClusterError, match="a notice is 0 to 86400 s long"):
            await machines.preempt("spot-1", seconds)
        assert machines.running() == {"spot-1": True}

    run(body, answer=None, takes_orders=False)


def test_a_node_that_cannot_be_booted_now_is_booted_when_it_can(run: Callable[..., None]) -> None:
    async def body(machines: Machines) -> None:
        machines.full_disks = 3
        machines.boots[0].terminate()
        await until(lambda: len(machines.boots) == 2, "the boot after three in vain")

    run(body, answer=None, takes_orders=False)


def test_a_node_that_is_recovered_is_booted_by_nobody_else(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(machines: Machines) -> None:
        monkeypatch.setattr(nodes, "RETRY_SECONDS", 3600.0)
        keeper = machines._keepers["spot-1"]
        machines.boots[0].terminate()
        await until(lambda: machines.running() == {"spot-1": False}, "the crash")
        await machines.recover("spot-1")
        await asyncio.wait({keeper}, timeout=DEADLINE_SECONDS)
        assert keeper.cancelled()
        assert len(machines.boots) == 2

    run(body, answer=None, takes_orders=False)


def test_of_two_who_recover_a_node_at_once_one_does(run: Callable[..., None]) -> None:
    async def body(machines: Machines) -> None:
        await machines.kill("spot-1")
        answers = await asyncio.gather(*(machines.recover("spot-1") for _ in range(2)), return_exceptions=True)
        assert [str(answer) for answer in answers] == ["None", "node spot-1 is being recovered already"]
        assert len(machines.boots) == 2

    run(body, answer=None, takes_orders=False)


@pytest.mark.parametrize(
    ("taint", "ready"),
    [
        ("node.kubernetes.io/not-ready", False),
        ("node.kubernetes.io/unreachable", False),
        ("node.kubernetes.io/unschedulable", True),
        ("somebody/dedicated", True),
    ],
)
def test_a_node_is_ready_whatever_taints_its_users_give_it(run: Callable[..., None], taint: str, ready: bool) -> None:
    async def body(machines: Machines) -> None:
        machines.api.node = {
            "spec": {"taints": [{"key": taint, "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
        assert await machines._is_ready("spot-1") is ready

    run(body, answer=None, takes_orders=True)


@pytest.mark.parametrize("name", ["ca", "admin", "apiserver"])
def test_a_node_takes_no_files_of_the_control_plane_whatever_its_name(tmp_path: Path, name: str) -> None:
    folder = StateFolder(tmp_path)
    folder.create()
    authority = Authority(folder.certificates)
    pairs = [authority.files, authority.client("admin", "admin"), authority.server("apiserver", ["a"], [])]
    before = [pair.certificate.read_bytes() + pair.key.read_bytes() for pair in pairs]
    Nodes(folder, authority, PAIR, Deletions(), 12)._config(NodeIdentity(name, 1, "spot", 0))
    assert [pair.certificate.read_bytes() + pair.key.read_bytes() for pair in pairs] == before


def test_a_node_whose_socket_has_no_path_is_refused_before_it_is_known(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / ("x" * 60))
    machines = Machines(folder, None)
    with pytest.raises(LocalClusterError, match="give the node a shorter name"):
        asyncio.run(machines.add("n" * 40, spot=True, gpus=0))
    assert machines.running() == {}
