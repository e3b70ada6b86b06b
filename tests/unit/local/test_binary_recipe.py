"""The hash that names a build, and the commands that make it."""

import dataclasses
from pathlib import Path

import pytest

from diffusion_local.binaries import recipe


def module_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, mod: str = "module a\n", total: str = ""
) -> recipe.Module:
    monkeypatch.setattr(recipe, "MODULES_FOLDER", folder)
    (folder / "tool").mkdir(parents=True, exist_ok=True)
    (folder / "tool" / "go.mod").write_text(mod)
    (folder / "tool" / "go.sum").write_text(total)
    return recipe.Module("tool", {"a": "example.test/cmd/a"}, "-s -w", "1")


def test_the_same_content_in_another_checkout_has_the_same_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = module_in(tmp_path / "one", monkeypatch).content_hash()
    assert module_in(tmp_path / "two", monkeypatch).content_hash() == first


def test_versions_sums_flags_and_processor_change_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module_in(tmp_path, monkeypatch)
    seen = {plain.content_hash()}
    seen.add(dataclasses.replace(plain, linker_flags="-s").content_hash())
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    seen.add(plain.content_hash())
    seen.add(module_in(tmp_path, monkeypatch, mod="module b\n").content_hash())
    seen.add(module_in(tmp_path, monkeypatch, total="x").content_hash())
    assert len(seen) == 5


def test_the_cache_follows_the_users_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = recipe.ETCD.cache_folder()
    assert folder.is_relative_to(tmp_path)
    assert recipe.ETCD.content_hash() in folder.name


def test_every_program_of_the_cluster_has_a_module_that_is_in_the_checkout() -> None:
    for program in (*recipe.CLUSTER_PROGRAMS, "helm"):
        assert (recipe.module_of(program).source / "go.sum").is_file()


def test_the_flags_give_the_version_that_the_module_requires() -> None:
    assert f"k8s.io/kubernetes {recipe.KUBERNETES_VERSION}" in (recipe.CONTROL_PLANE.source / "go.mod").read_text()
    for package in recipe.VERSION_PACKAGES:
        assert f"-X {package}.gitVersion={recipe.KUBERNETES_VERSION}" in recipe.CONTROL_PLANE.linker_flags


@pytest.mark.parametrize(
    ("package", "name"), [("k8s.io/kubernetes/cmd/kubectl", "kubectl"), ("go.etcd.io/etcd/server/v3", "server")]
)
def test_go_names_a_program_by_its_packages_last_part_but_a_version(package: str, name: str) -> None:
    assert recipe.Module.built_name(package) == name


def test_the_build_command_names_only_what_is_missing(tmp_path: Path) -> None:
    command = recipe.CONTROL_PLANE.command("go", tmp_path, ("kubectl",))
    assert command[-1] == "k8s.io/kubernetes/cmd/kubectl"
    assert "-trimpath" in command
