"""Real worker processes of a training run, from start to publication, through what machines do to them."""

import json
from pathlib import Path

import pytest
from trainer_workers import Run, run_document
from worker_nursery import Nursery

from diffusion_contract.model_reference import parse_model_reference
from diffusion_registry.verification import read_model_version


@pytest.fixture(scope="module")
def nursery():
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def make_run(nursery: Nursery, tmp_path: Path):
    runs = []

    def make(minimum: int = 1, **changes: object) -> Run:
        folder = tmp_path / f"run-{len(runs)}"
        folder.mkdir()
        runs.append(Run(nursery, folder, run_document(**changes), minimum))
        return runs[-1]

    yield make
    for run in runs:
        run.close()
        print(run.logs())


def test_two_workers_train_save_and_publish(make_run):
    run = make_run(minimum=2)
    workers = [run.start_worker(), run.start_worker()]
    assert [worker.wait_exit(60) for worker in workers] == [0, 0]
    assert run.committed() == [20, 15, 10]
    words = workers[0].last_words()
    assert words["reason"] == "Finished"
    assert words["committed"]["step"] == 20
    reference = parse_model_reference(words["published"]["reference"])
    version = read_model_version(run.models, reference)
    assert version.lineage.checkpoint.digest == words["committed"]["digest"]
    assert version.lineage.samples_seen == 120
    assert json.loads((run.models / "models/tiny/index.json").read_text())["manifests"]
