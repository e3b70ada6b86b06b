"""A pod that was given GPUs never trains on its CPUs without a word."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from diffusion_core.accelerator import AcceleratorUnusable
from diffusion_trainer import accelerator, zygote
from diffusion_trainer.accelerator import ForkPoisoned, choose_device
from diffusion_trainer.agent import zygote_environment
from diffusion_trainer.refusal import ConfigurationRefused
from trainer_in_process import SHORT, train_here

FindGPUs = Callable[..., None]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> FindGPUs:
    """Pretend that CUDA finds so many GPUs, and that NVML answers as it does where its files were closed: anything."""

    def find(count: int, poisoned: bool = False) -> None:
        def init() -> None:
            if count == 0:
                raise RuntimeError("Found no NVIDIA driver on your system")

        answers = itertools.cycle([True, False])
        monkeypatch.setattr(torch.cuda, "is_available", lambda: next(answers))
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "set_device", lambda _device: None)
        monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: poisoned)

    return find


def test_the_process_that_forks_asks_for_gpus_without_touching_them() -> None:
    environment = zygote_environment({"OMP_NUM_THREADS": "3"}, 2)
    assert environment["PYTORCH_NVML_BASED_CUDA_CHECK"] == "1"
    assert environment["TORCH_NCCL_ASYNC_ERROR_HANDLING"] == environment["TORCH_NCCL_ENABLE_MONITORING"] == "0"
    assert environment["OMP_NUM_THREADS"] == "3"


def test_without_gpus_it_is_the_cpu_and_with_them_one_for_each_process(gpus: FindGPUs) -> None:
    gpus(0, poisoned=True)
    assert choose_device(0, []) == torch.device("cpu")
    gpus(2)
    assert choose_device(1, ["nvidia0", "nvidia1"]) == torch.device("cuda", 1)
    with pytest.raises(ConfigurationRefused, match="process 2 has no GPU of its own, the pod has 2") as caught:
        choose_device(2, ["nvidia0", "nvidia1"])
    assert caught.value.path == "spec.workers.processesPerWorker"


def test_a_gpu_that_cannot_be_used_is_an_error_and_never_the_cpu(gpus: FindGPUs) -> None:
    gpus(0)
    with pytest.raises(
        AcceleratorUnusable, match=r"this pod has nvidia0, .* \(Found no NVIDIA driver .* check the node's driver"
    ):
        choose_device(0, ["nvidia0"])


@pytest.mark.parametrize(
    ("poisoned", "code", "words"), [(True, 93, "before the trainer was forked"), (False, 1, "driver")]
)
def test_the_last_words_say_so(
    gpus: FindGPUs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, poisoned: bool, code: int, words: str
) -> None:
    gpus(0, poisoned)
    monkeypatch.setattr(accelerator, "given_devices", lambda _environment: ["nvidia0"])
    ended, said = train_here(tmp_path)
    assert (ended, said[-1].state) == (code, "Failed")
    assert words in (said[-1].message or "")


POISON_AND_FORK = """
import os, torch
from diffusion_trainer.accelerator import ForkPoisoned, choose_device
torch.accelerator.is_available()
child = os.fork()
if child == 0:
    try:
        choose_device(0, ["nvidia0"])
    except ForkPoisoned:
        os._exit(93)
    finally:
        os._exit(1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_fork_after_cuda_was_asked_is_recognised() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTORCH_NVML_BASED_CUDA_CHECK"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", POISON_AND_FORK], env=environment, capture_output=True, timeout=120
    )
    assert done.returncode == 93, done.stderr.decode()
    assert issubclass(ForkPoisoned, Exception)


def test_a_forked_process_keeps_the_files_of_the_driver_and_closes_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NVML has opened them before the fork, and finds no GPU without them."""
    monkeypatch.setattr(zygote, "_DRIVER_FILES", str(tmp_path / "nvidia"))
    files = [(tmp_path / name).open("wb") for name in ("nvidiactl", "nvidia0", "other")]
    pid = zygote.fork(lambda: sum(1 << place for place, file in enumerate(files) if is_open(file)), [])
    for file in files:
        file.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0b011


def is_open(file: BinaryIO) -> bool:
    try:
        os.fstat(file.fileno())
    except OSError:
        return False
    return True


def test_a_trainer_takes_the_kernels_that_repeat_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    code, _said = train_here(tmp_path, training={**SHORT, "targetSteps": 1})
    assert (code, torch.backends.cudnn.deterministic) == (0, True)
