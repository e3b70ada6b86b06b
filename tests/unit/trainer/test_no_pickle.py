"""Nothing in our workloads unpickles: a checkpoint or a dataset is data, never code."""

import ast
from pathlib import Path

import pytest

import diffusion_trainer

ROOT = Path(diffusion_trainer.__file__).parents[1]
SOURCES = sorted(ROOT.rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {("torch", "load"), ("torch", "save"), ("accelerator", "save_state"), ("accelerator", "load_state")}


def faults(source: str) -> list[str]:
    """Imports of pickling modules, calls that pickle, and np.load that may unpickle."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in MODULES:
            found.append(node.module)
        if isinstance(node, ast.ImportFrom) and node.module in {owner for owner, _name in CALLS}:
            found += [f"{node.module}.{alias.name}" for alias in node.names if (node.module, alias.name) in CALLS]
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        if (owner.lstrip("_"), node.func.attr) in CALLS or node.func.attr.endswith("_object_list"):
            found.append(f"{owner}.{node.func.attr}")
        allowed = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if (owner, node.func.attr) == ("np", "load") and allowed.get("allow_pickle") != "False":
            found.append("np.load")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_pickles(path: Path) -> None:
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "from torch import load",
        "from torch import nn, save as keep",
        "torch.load('x')",
        "dist.broadcast_object_list([])",
        "np.load('x')",
        "np.load('x', allow_pickle=True)",
    ],
)
def test_the_lint_finds_what_it_is_for(source: str) -> None:
    assert faults(source)
