"""The pure rules of a worker: ranks, learning rate, threads, pauses, agreement on the state, and what is refused."""

import itertools
import json
import math
import re
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

import diffusion_trainer
from diffusion_contract.agent_messages import Member, TrainerInstruction
from diffusion_contract.names import RENDEZVOUS_PORT, RENDEZVOUS_PORTS
from diffusion_contract.run_config import TrainingSpec
from diffusion_trainer import checkpoint, rng
from diffusion_trainer.learning_rate import learning_rate
from diffusion_trainer.live_config import LiveConfig, read_config
from diffusion_trainer.operator_link import pause_after
from diffusion_trainer.placement import drops_without_notice, must_leave, placement, rendezvous_port
from diffusion_trainer.refusal import ConfigurationRefused
from diffusion_trainer.rendezvous import PeersLost, interface_with, is_peer_loss
from diffusion_trainer.state_agreement import Standing, agree
from diffusion_trainer.thread_limits import cpu_limit, thread_environment
from trainer_workers import run_document


def instruction(*members: tuple[str, int], **fields: object) -> TrainerInstruction:
    return TrainerInstruction(
        attempt=0,
        generation=fields.pop("generation", 4),
        members=tuple(
            Member(pod=uid, uid=uid, address=f"10.0.0.{i}", processes=n) for i, (uid, n) in enumerate(members)
        ),
        **fields,
    )


def test_ranks_follow_the_order_of_members_and_their_processes() -> None:
    given = instruction(("a", 2), ("b", 1), ("c", 3))
    found = [placement(given, uid, local) for uid, count in (("a", 2), ("b", 1), ("c", 3)) for local in range(count)]
    places = [place for place in found if place is not None]
    assert [place.rank for place in places] == list(range(6))
    assert {place.world for place in places} == {6}
    assert places[5].local_rank == 2
    assert places[5].local_world == 3
    assert {(place.master_address, place.master_port) for place in places} == {("10.0.0.0", RENDEZVOUS_PORT + 4)}


def test_a_pod_that_is_no_member_has_no_place() -> None:
    assert placement(instruction(("a", 1)), "b", 0) is None
    assert placement(instruction(("a", 1)), "a", 1) is None
    assert placement(instruction(("a", 1), generation=0), "a", 0) is None


def test_neighbouring_generations_have_ports_of_their_own() -> None:
    ports = [rendezvous_port(generation) for generation in range(1, 3 * RENDEZVOUS_PORTS)]
    assert all(first != second for first, second in itertools.pairwise(ports))
    assert set(ports) <= set(range(RENDEZVOUS_PORT, RENDEZVOUS_PORT + RENDEZVOUS_PORTS))


def test_who_leaves_and_who_was_dropped_without_a_word() -> None:
    given = instruction(("a", 1), leaving=("b",))
    assert must_leave(given, "b")
    assert not must_leave(given, "a")
    assert must_leave(instruction(("a", 1), stop=True), "a")
    assert not drops_without_notice(given, frozenset("ab"))
    assert drops_without_notice(given, frozenset("abc"))


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    schedule = {"type": "Cosine", "warmupSteps": 4}
    cosine = TrainingSpec.model_validate({"targetSteps": 104, "learningRateSchedule": schedule})
    rates = [learning_rate(step, cosine, 104) for step in range(105)]
    assert rates[:4] == pytest.approx([0.0002, 0.0004, 0.0006, 0.0008])
    assert rates[4] == 0.001
    assert rates[54] == pytest.approx(0.0005)
    assert rates[104] == pytest.approx(0, abs=1e-9)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[4:]))
    assert learning_rate(10**6, TrainingSpec(target_steps=5), 5) == 0.001


def test_threads_come_from_the_environment_or_the_cpus(tmp_path: Path) -> None:
    assert thread_environment({"OMP_NUM_THREADS": "3"}, 2, 8)["MKL_NUM_THREADS"] == "3"
    assert thread_environment({}, 2, 8)["OMP_NUM_THREADS"] == "4"
    assert thread_environment({"OMP_NUM_THREADS": "many"}, 4, 2)["OMP_NUM_THREADS"] == "1"
    limit = tmp_path / "cpu.max"
    limit.write_text("50000 100000\n")
    assert cpu_limit(limit) == 0.5
    limit.write_text("max 100000\n")
    assert cpu_limit(limit) >= 1
    assert cpu_limit(tmp_path / "none") >= 1


def test_pauses_double_up_to_ten_seconds_and_are_spread() -> None:
    assert [pause_after(failures, lambda: 1.0) for failures in (1, 2, 3, 20)] == [0.2, 0.4, 0.8, 10.0]
    assert pause_after(4, lambda: 0.0) == 0.8
    assert pause_after(10**6) <= 10


def test_the_most_advanced_state_wins_and_differing_ones_are_sent() -> None:
    same = Standing(5, 2, 1.5)
    assert agree([same, same]).everyone_has_it
    behind = agree([Standing(4, 2, 1.0), Standing(5, 2, 1.5)])
    assert (behind.source, behind.everyone_has_it) == (1, False)
    assert agree([Standing(-1, 0, 0), same]).source == 1
    assert agree([Standing(5, 1, 1.5), Standing(5, 2, 1.5)]).source == 1
    assert not agree([same, Standing(5, 2, 1.25)]).everyone_has_it
    nobody = agree([Standing(-1, 0, 0)] * 3)
    assert (nobody.source, nobody.everyone_has_it) == (None, False)


def test_all_random_generators_go_on_where_they_were() -> None:
    import random

    import numpy as np

    def draw() -> tuple[object, ...]:
        return (
            random.random(),
            random.gauss(0, 1),
            float(np.random.rand()),
            float(np.random.randn()),
            torch.rand(2).tolist(),
        )

    rng.seed_all(1, 2, 3)
    draw()
    state = rng.capture()
    expected = [draw() for _ in range(3)]
    draw()
    rng.restore(state)
    assert [draw() for _ in range(3)] == expected
    assert len(rng.capture()) == len(state)
    with pytest.raises(ValueError, match="bytes"):
        rng.restore(state[:-1])


def test_ranks_draw_different_numbers_in_the_same_step() -> None:
    draws = set()
    for rank in range(4):
        rng.seed_all(0, 10, rank)
        draws.add(float(torch.rand(1)))
    assert len(draws) == 4


def test_which_errors_mean_that_a_peer_has_gone() -> None:
    gloo = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer")
    assert is_peer_loss(gloo)
    assert is_peer_loss(PeersLost("x"))
    assert is_peer_loss(torch.distributed.DistNetworkError("x"))
    assert not is_peer_loss(RuntimeError("shape mismatch"))
    assert not is_peer_loss(OSError("Broken pipe"))


def test_the_interface_of_an_address_is_found() -> None:
    assert interface_with("127.0.0.1") == "lo"
    assert interface_with("203.0.113.7") is None


def test_a_wrong_configuration_names_its_field(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    for change, field in (
        ({"training": {"targetSteps": 0}}, "spec.training.targetSteps"),
        ({"diffusion": {"schedule": {"type": "Linear"}, "prediction": "Flow"}}, "spec.diffusion.prediction"),
        ({"surprise": 1}, "spec.surprise"),
    ):
        path.write_text(json.dumps(run_document(**change)))
        with pytest.raises(ConfigurationRefused) as caught:
            read_config(path)
        assert caught.value.path == field
    with pytest.raises(ConfigurationRefused, match="cannot be read"):
        read_config(tmp_path / "none.json")


def test_a_changed_configuration_is_taken_only_if_it_is_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    training = {"targetSteps": 10, "globalBatchSize": 4, "seed": 1}
    path.write_text(json.dumps(run_document(training=training)))
    live = LiveConfig(path)
    clock = time.monotonic()
    for wait, change, target in (
        (1, {"targetSteps": 30}, 10),
        (3, {"targetSteps": 30}, 30),
        (6, {"seed": 9}, 30),
        (9, None, 30),
    ):
        new = tmp_path / "new.json"
        new.write_text("{" if change is None else json.dumps(run_document(training={**training, **change})))
        new.rename(path)
        monkeypatch.setattr("diffusion_trainer.live_config.time.monotonic", lambda at=clock + wait: at)
        assert live.refresh().training.target_steps == target
        assert math.isfinite(live.current.training.optimizer.learning_rate)


@pytest.mark.parametrize("package", [diffusion_trainer, checkpoint])
def test_the_package_says_what_is_in_each_of_its_files(package: ModuleType) -> None:
    told = package.__doc__ or ""
    names = [path.name for path in Path(*package.__path__).glob("*.py") if path.name != "__init__.py"]
    assert [name for name in names if name not in told] == []
    files = re.findall(r"[\w./]+\.py\b", told)
    assert [name for name in files if not Path(*package.__path__, name).is_file()] == []
