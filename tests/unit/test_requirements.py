"""Each console script is covered by an extra of its own, and each lock by what the extra asks for."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from diffusion_contract.console_scripts import SCRIPTS

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
ROOTS = [REPOSITORY / root for root in ("operator", "workloads", "local")]
LOCKS = [path.stem for path in sorted((REPOSITORY / "requirements").glob("*.txt")) if path.stem != "bootstrap"]
HEAVY = {"torch", "diffusers", "accelerate", "numpy"}


def normal(name: str) -> str:
    """A distribution's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def asked_by(extra: str) -> set[str]:
    """The distributions that an extra and the project itself ask for directly, extras within extras included."""
    found = {normal(re.split(r"[\s<>=\[;]", line)[0]) for line in PROJECT["dependencies"]}
    for line in EXTRAS[extra]:
        if inner := re.fullmatch(r"diffusion-operator\[(.+)\]", line):
            found |= {name for part in inner[1].split(",") for name in asked_by(part)}
        else:
            found.add(normal(re.split(r"[\s<>=\[;]", line)[0]))
    return found


def locked(lock: str) -> dict[str, str]:
    """The distributions of a lock file with their versions."""
    text = (REPOSITORY / "requirements" / f"{lock}.txt").read_text()
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)}


def file_of(module: str) -> Path | None:
    """Where one of our modules lies; None for somebody else's."""
    place = Path(*module.split("."))
    candidates = [root / found for root in ROOTS for found in (place / "__init__.py", place.with_suffix(".py"))]
    return next((path for path in candidates if path.is_file()), None)


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file imports anywhere, `from a import b` as both a and a.b, or runs by `python -m`."""
    text = path.read_text()
    started = re.findall(r'"-m", "(diffusion_[\w.]+)"', text)
    found = {name for module in started for name in (module, f"{module}.__main__")}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def needed_by(module: str) -> set[str]:
    """The distributions that `module`, and everything of ours that it leads to, imports directly."""
    seen, waiting, foreign = set[str](), [module], set[str]()
    while waiting:
        name = waiting.pop()
        path = file_of(name)
        if path is None:
            foreign.add(name.split(".")[0])
        elif name not in seen:
            seen.add(name)
            waiting += imports(path)
    installed = packages_distributions()
    names = foreign - set(sys.stdlib_module_names)
    return {normal(installed[name][0]) for name in names if not name.startswith("diffusion_")}


@pytest.mark.parametrize(("module", "extra"), SCRIPTS.values(), ids=SCRIPTS)
def test_an_extra_asks_for_all_that_its_console_script_imports(module: str, extra: str) -> None:
    needed = needed_by(module)
    assert len(needed) > 2, "the imports were not found"
    assert needed <= asked_by(extra)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_what_its_extra_asks_for(lock: str) -> None:
    assert asked_by(lock) <= set(locked(lock))


@pytest.mark.parametrize("lock", LOCKS)
def test_all_locks_agree_so_that_the_tests_run_what_the_images_hold(lock: str) -> None:
    assert locked(lock).items() <= locked("dev").items()


@pytest.mark.parametrize("lock", ["operator", "router", "local"])
def test_what_needs_no_torch_is_installed_without(lock: str) -> None:
    assert not set(locked(lock)) & HEAVY


def test_each_image_installs_the_lock_of_its_command() -> None:
    stages = re.split(r"^FROM ", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    found = {}
    for stage in stages:
        lock = re.search(r"requirements/(\w+)\.txt", stage)
        if entry := re.search(r'ENTRYPOINT \["([\w-]+)"\]', stage):
            found[entry[1]] = lock and lock[1]
    assert found == {script: SCRIPTS[script][1] for script in found}
    assert set(found) == set(PROJECT["scripts"]) - {"kubectl-diffusion", "diffusion-local"}
