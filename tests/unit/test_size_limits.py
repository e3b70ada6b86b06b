"""The measure of the code: files up to 300 lines, functions up to 60 and mostly under 15."""

import ast
import statistics
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ROOTS = ("operator", "workloads", "local")
FILES = sorted(path for root in ROOTS for path in (REPOSITORY / root).rglob("*.py"))
FILE_LINES, FUNCTION_LINES, TYPICAL_FUNCTION_LINES = 300, 60, 15


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_file_and_its_functions_are_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= FILE_LINES, f"{path.name} has {lines} lines: split it by what its parts are about"
    too_long = {node.name: length(node) for node in functions(path) if length(node) > FUNCTION_LINES}
    assert not too_long, f"functions over {FUNCTION_LINES} lines: {too_long}"


def test_most_functions_are_short() -> None:
    lengths = [length(node) for path in FILES for node in functions(path)]
    assert statistics.median(lengths) <= TYPICAL_FUNCTION_LINES
