"""The demo's chapters, each alone, with statuses and tools that are played to it."""

import base64
import http.server
import io
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from diffusion_contract.names import POOL_LABEL, TRAINING_LABEL
from diffusion_local.demo import cluster_commands
from diffusion_local.demo.cluster_commands import ClusterCommands, CommandFailed
from diffusion_local.demo.narration import Narration
from diffusion_local.demo.operator_chart import OperatorChart
from diffusion_local.demo.serving_scene import ImagesClient
from diffusion_local.demo.training_scene import TrainingScene
from diffusion_local.demo.worker_nodes import spot_worker_node, usable_nodes
from diffusion_local.node_orders import CAPACITY_LABEL, ON_DEMAND, SPOT
from diffusion_local.source_digest import source_digest


def node(name: str, capacity_type: str = SPOT, ready: str = "True", **spec: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready}]
    labels = {CAPACITY_LABEL: capacity_type}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"conditions": conditions}}


def pod(node_name: str, pool: str = "spot", phase: str = "Running", **metadata: Any) -> dict[str, Any]:
    labels = {TRAINING_LABEL: "digits", POOL_LABEL: pool}
    meta = {"labels": labels} | metadata
    return {"metadata": meta, "spec": {"nodeName": node_name}, "status": {"phase": phase}}


def skip_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have commands wait for nothing in earnest; returns the seconds of each wait, of which their clock is the sum."""
    slept: list[float] = []
    clock = SimpleNamespace(sleep=slept.append, monotonic=lambda: sum(slept))
    monkeypatch.setattr(cluster_commands, "time", clock)
    return slept


class TestNodes:
    def test_only_those_that_take_pods_count(self) -> None:
        leaving = [{"key": "aws-node-termination-handler/spot-itn", "effect": "NoSchedule"}]
        nodes = [
            node("leaving", taints=leaving),
            node("dead", ready="Unknown"),
            node("cordoned", unschedulable=True),
            node("soft", taints=[{"key": "a", "effect": "PreferNoSchedule"}]),
            node("good"),
            node("other", ON_DEMAND),
            {"metadata": {"name": "new"}, "spec": {}},
        ]
        assert usable_nodes(nodes, SPOT) == ["soft", "good"]
        assert usable_nodes(nodes, ON_DEMAND) == ["other"]

    def test_the_spot_workers_node_is_that_of_its_running_pod(self) -> None:
        others = [
            pod("node-1", pool="base"),
            pod("spot-9", phase="Failed"),
            pod("spot-8", deletionTimestamp="now"),
            pod("spot-7", labels={TRAINING_LABEL: "other", POOL_LABEL: "spot"}),
        ]
        assert spot_worker_node([*others, pod("spot-2")], "digits") == "spot-2"
        assert spot_worker_node(others, "digits") is None


def tool(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


class TestCommands:
    def commands(self, tmp_path: Path, kubectl: str = "", helm: str = "") -> ClusterCommands:
        kubeconfig = tmp_path / "config"
        kubeconfig.touch()
        return ClusterCommands(tool(tmp_path / "kubectl", kubectl), tool(tmp_path / "helm", helm), kubeconfig)

    def test_a_command_that_hangs_is_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(CommandFailed, match=r"^kubectl get nodes: no answer within 0 s$"):
            self.commands(tmp_path, kubectl="exec sleep 100").kubectl("get", "nodes", timeout=0.1)

    @pytest.mark.parametrize("end", ["{};", "(sleep 1; {}) </dev/null >/dev/null 2>&1 & echo connection refused >&2;"])
    def test_a_cluster_that_was_ended_in_the_middle_is_said_to_be(self, tmp_path: Path, end: str) -> None:
        commands = self.commands(tmp_path, kubectl=f"{end.format(f'rm {tmp_path}/config')} echo sorry >&2; exit 1")
        with pytest.raises(CommandFailed, match=r"^somebody has ended the cluster meanwhile$"):
            commands.kubectl("get", "nodes")

    def test_what_a_command_said_is_the_reason(self, tmp_path: Path) -> None:
        with pytest.raises(CommandFailed, match=r"kubectl get nodes: no such \[thing\]"):
            self.commands(tmp_path, kubectl="echo 'no such [thing]' >&2; exit 1").kubectl("get", "nodes")

    def test_waiting_lasts_while_anything_moves(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        slept, commands, seen = skip_waits(monkeypatch), self.commands(tmp_path), list[int]()

        def look() -> bool:
            seen.append(len(seen))
            return seen[-1] == 19

        assert commands.wait_for("it", look, 0.1, every=0.03, sign_of_life=lambda: seen[-1:])
        assert sum(slept) > 0.3
        with pytest.raises(CommandFailed, match=r"it: not yet, and nothing has moved for 0 s"):
            commands.wait_for("it", lambda: False, 0.1, every=0.03, sign_of_life=lambda: "the same")

    @pytest.mark.parametrize("state", ["pending-install", "pending-upgrade", "pending-rollback", "uninstalling"])
    def test_what_an_interrupted_helm_left_is_removed_before_the_next(self, tmp_path: Path, state: str) -> None:
        calls = self.install(tmp_path, [{"name": "diffusion-operator", "status": state}])
        assert [call.split()[2] for call in calls] == ["list", "uninstall", "upgrade"]

    @pytest.mark.parametrize("state", ["deployed", "failed", None])
    def test_a_release_that_helm_can_upgrade_stays(self, tmp_path: Path, state: str | None) -> None:
        releases = [{"name": "another", "status": "pending-install"}]
        if state is not None:
            releases.append({"name": "diffusion-operator", "status": state})
        calls = self.install(tmp_path, releases)
        assert [call.split()[2] for call in calls] == ["list", "upgrade"]

    def test_the_operators_pod_carries_the_digest_of_its_sources(self, tmp_path: Path) -> None:
        source = tmp_path / "operator" / "diffusion_operator" / "a.py"
        source.parent.mkdir(parents=True)
        source.write_text("1")
        first = self.install(tmp_path, [])[-1]
        assert self.install(tmp_path, [])[-1] == first
        source.write_text("2")
        edited = self.install(tmp_path, [])[-1]
        assert edited != first
        digest = source_digest(tmp_path / "operator", ["diffusion_operator"])
        assert f"--set-string podAnnotations.diffusion\\.dev/source-digest={digest}" in edited

    def install(self, folder: Path, releases: list[dict[str, str]]) -> list[str]:
        """Install with a Helm that knows `releases`, and return its calls."""
        (folder / "releases").write_text(json.dumps(releases))
        script = f'echo "$*" >> {folder}/calls; [ $3 = list ] && cat {folder}/releases; exit 0'
        (folder / "calls").unlink(missing_ok=True)
        OperatorChart(self.commands(folder, helm=script), folder).install()
        return (folder / "calls").read_text().splitlines()


Status = dict[str, Any]
Play = Callable[..., tuple[str, list[str]]]


def status(step: int, workers: int, phase: str = "Running", **more: Any) -> Status:
    progress = {"step": step, "targetSteps": 600, "loss": 1.0 / (1 + step), "samplesPerSecond": 100.0}
    return {"phase": phase, "worldSize": workers, "progress": progress} | more


LOST: Status = {
    "preemptions": [{"recoverySeconds": 0.5, "lostSteps": 0}],
    "checkpoint": {"lastCommitted": {"step": 201}},
}
PUBLISHED: Status = {"published": {"reference": "pvc://a/b@sha256:[c]"}}
WHOLE: list[Status] = [
    {},
    status(10, 1),
    status(50, 2),
    status(200, 2),
    status(201, 1, **LOST),
    status(250, 1, **LOST),
    status(300, 2, **LOST),
    status(600, 2, "Succeeded", **LOST, **PUBLISHED),
]


class TestTraining:
    @pytest.fixture
    def play(self, monkeypatch: pytest.MonkeyPatch) -> Play:
        """Play the scene on statuses, of which the last one lasts; returns what was told and done to the cluster."""
        skip_waits(monkeypatch)

        def play(
            statuses: list[Status], spot_node: Callable[[], str | None] = lambda: "spot-2"
        ) -> tuple[str, list[str]]:
            shown = itertools.chain(statuses, itertools.repeat(statuses[-1]))
            monkeypatch.setattr(ClusterCommands, "get", lambda *_: {"status": next(shown)})
            told, done = io.StringIO(), list[str]()
            TrainingScene(
                commands=ClusterCommands(Path("kubectl"), Path("helm"), Path("config")),
                narration=Narration(Console(file=told, width=200)),
                name="digits",
                namespace="demo",
                spot_node=spot_node,
                preempt=lambda name: done.append(f"preempt {name}"),
                add_spot_node=lambda: done.append("add"),
            ).play()
            return told.getvalue(), done

        return play

    def test_the_whole_story(self, play: Play) -> None:
        told, done = play(WHOLE)
        assert done == ["preempt spot-2", "add"]
        lines = [line.partition("] ")[2] for line in told.splitlines() if line.startswith("[")]
        assert lines == [
            "Training on 2 workers: one on demand, one on a spot node.",
            "The cloud takes the spot node back, with 15 s notice.",
            "Checkpoint at step 201, going on with 1 worker after 0.5 s, 0 steps lost.",
            "A new spot node was ordered.",
            "A new spot node has arrived: 2 workers again, state sent from the one that went on.",
            "Training is done: step 600, loss 0.09 -> 0.00",
            "Model version published: pvc://a/b@sha256:[c]",
        ]

    def test_a_spot_worker_that_is_not_there_yet_is_waited_for(self, play: Play) -> None:
        names = iter([None, "spot-3"])
        _, done = play([*WHOLE[:4], status(202, 2), *WHOLE[4:]], lambda: next(names))
        assert done == ["preempt spot-3", "add"]

    def test_a_new_worker_that_comes_between_two_looks_is_no_missing_chapter(self, play: Play) -> None:
        told, _ = play([*WHOLE[:4], status(300, 2, **LOST), status(301, 2, **LOST), WHOLE[-1]])
        assert "going on with 1 worker after 0.5 s" in told
        assert "2 workers again" in told

    @pytest.mark.parametrize(
        ("statuses", "missing"),
        [
            ([status(10, 1), status(600, 1, "Succeeded", **PUBLISHED)], "training on 2 workers, the loss of the spot"),
            (
                [*WHOLE[:6], status(600, 1, "Succeeded", **LOST, **PUBLISHED)],
                "this was not seen on the way: 2 workers again;",
            ),
        ],
    )
    def test_a_chapter_that_did_not_happen_is_a_failure(self, play: Play, statuses: list[Status], missing: str) -> None:
        with pytest.raises(CommandFailed, match=missing):
            play(statuses)

    def test_a_failed_run_and_one_that_stands_still_are_failures(self, play: Play) -> None:
        failed = {"conditions": [{"type": "Failed", "status": "True", "message": "no [disk]"}]}
        with pytest.raises(CommandFailed, match=r"digits failed: no \[disk\]"):
            play([failed])
        with pytest.raises(CommandFailed, match="digits has succeeded: not yet, and nothing has moved"):
            play(WHOLE[:3])


class PlayedRouter(http.server.HTTPServer):
    """Its answers, one after the other: a status, or None for a cut connection."""

    answers: list[int | None]


class TestDrawing:
    @pytest.fixture
    def router(self) -> Iterator[PlayedRouter]:
        png = io.BytesIO()
        Image.new("L", (8, 8), 7).save(png, "PNG")
        good = json.dumps({"data": [{"b64_json": base64.b64encode(png.getvalue()).decode()}]}).encode()

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                code = server.answers.pop(0)
                if code is None:
                    self.close_connection = True
                    return
                body = good if code == 200 else b'{"error": "[why]"}'
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Retry-After", "0.01")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        server = PlayedRouter(("127.0.0.1", 0), Answer)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
        server.server_close()

    def draw(self, router: PlayedRouter, answers: list[int | None]) -> int:
        router.answers = answers
        picture = ImagesClient(f"http://127.0.0.1:{router.server_port}", "key").generate(7, 1)
        return int(picture[0, 0])

    def test_a_full_service_is_tried_again(self, router: PlayedRouter) -> None:
        assert self.draw(router, [429, 200]) == 7

    def test_a_proxy_of_the_users_is_not_asked_for_our_own_address(
        self, router: PlayedRouter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert self.draw(router, [200]) == 7

    def test_a_refusal_and_a_cut_connection_are_sentences(self, router: PlayedRouter) -> None:
        with pytest.raises(CommandFailed, match=r'the service answered 401: .*"\[why\]"'):
            self.draw(router, [401])
        with pytest.raises(CommandFailed, match=r"the service at http://127.* does not answer: Remote"):
            self.draw(router, [None])
