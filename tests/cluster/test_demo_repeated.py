"""The demo's first chapter, repeated on a cluster that an interrupted demo has left."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from cluster_fixtures import wait_for
from diffusion_local import launch
from diffusion_local.demo.narration import Narration
from diffusion_local.demo.quickstart import Quickstart
from diffusion_local.demo.worker_nodes import usable_nodes
from diffusion_local.errors import LocalClusterError
from diffusion_local.node_orders import ON_DEMAND, SPOT
from diffusion_local.source_digest import own_code
from diffusion_local.state import HOME_VARIABLE


@pytest.fixture
def interrupted(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Quickstart]:
    """A demo that has come as far as its cluster."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path_factory.mktemp("h")))
    demo = another_demo()
    demo.bring_up_the_cluster()
    yield demo
    demo.stop()


def other(demo: Quickstart, **options: object) -> None:
    """Have the cluster of `demo` on record as one that was started with other `options`."""
    cluster = demo.cluster
    cluster.folder.config.write_text(cluster.options.model_copy(update=options).to_json())


def another_demo() -> Quickstart:
    narration = Narration(Console(file=io.StringIO()))
    return Quickstart(narration=narration, cluster_name="demo", output=Path("unused"), owned=True)


def test_what_left_or_died_is_replaced_and_counts_no_more(interrupted: Quickstart) -> None:
    interrupted.cluster.preempt_node("spot-1", 3600)
    interrupted.cluster.kill_node("node-1")
    nodes = interrupted.commands
    wait_for(lambda: not usable_nodes(nodes.list("nodes"), ON_DEMAND), 60, "a dead machine that is seen to be dead")
    again = another_demo()
    again.bring_up_the_cluster()
    assert usable_nodes(nodes.list("nodes"), SPOT) == ["spot-2"]
    assert usable_nodes(nodes.list("nodes"), ON_DEMAND) == ["node-2"]
    assert {node["metadata"]["name"] for node in nodes.list("nodes")} >= {"node-1", "spot-1"}


def test_a_demo_from_another_checkout_is_refused_with_the_way_out(interrupted: Quickstart) -> None:
    other(interrupted, environment=Path("/other/.venv"), code="other")
    with pytest.raises(
        LocalClusterError, match=r"not as asked \(environment is /other/\.venv, not .*: end it first with"
    ):
        another_demo().bring_up_the_cluster()


def test_a_demo_after_an_update_begins_with_a_cluster_that_runs_the_code_of_now(interrupted: Quickstart) -> None:
    """Nodes that were started from older code could not run what the newer asked of them."""
    before = launch.running(interrupted.cluster.folder)
    other(interrupted, code="other")
    again = another_demo()
    again.bring_up_the_cluster()
    assert before is not None
    assert not before.runs()
    assert usable_nodes(again.commands.list("nodes"), SPOT) == ["spot-1"]
    new = again.cluster.options.code
    another_demo().bring_up_the_cluster()
    assert launch.code(again.cluster.folder) == new == own_code(), "the same code joins it"
    again.stop()
