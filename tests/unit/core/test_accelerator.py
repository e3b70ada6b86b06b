"""Which GPUs a container was given, and what is said of those that cannot be used."""

from pathlib import Path

from diffusion_core.accelerator import given_devices


def test_devices_are_known_by_their_files_unless_they_are_taken_away(tmp_path: Path) -> None:
    for name in ("nvidia1", "nvidia0", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert given_devices({}, tmp_path) == ["nvidia0", "nvidia1"]
    assert given_devices({"CUDA_VISIBLE_DEVICES": "0"}, tmp_path) == ["nvidia0", "nvidia1"]
    for hidden in ("", "-1", "void", "none"):
        assert given_devices({"CUDA_VISIBLE_DEVICES": hidden}, tmp_path) == []


def test_devices_that_a_plugin_has_given_and_the_runtime_has_not_brought_in_are_known_by_name(tmp_path: Path) -> None:
    given = {"NVIDIA_VISIBLE_DEVICES": "GPU-aa-bb,MIG-cc"}
    assert given_devices(given, tmp_path) == ["GPU-aa-bb", "MIG-cc"]
    assert given_devices({**given, "CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []
    for anything in ("all", "void", "", "none", "0"):
        assert given_devices({"NVIDIA_VISIBLE_DEVICES": anything}, tmp_path) == []
