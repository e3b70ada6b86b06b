"""The measure of the code and its tests: files up to 300 lines, functions up to 60, mostly under 15, no block twice."""

import ast
import statistics
from collections import defaultdict
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ROOTS = ("operator", "workloads", "local", "tests", "bench")
FILES = sorted(path for root in ROOTS for path in (REPOSITORY / root).rglob("*.py"))
FILE_LINES, FUNCTION_LINES, TYPICAL_FUNCTION_LINES, REPEATED_LINES = 300, 60, 15, 6


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


def lines_that_say_something(text: str) -> list[tuple[int, str]]:
    """Numbered lines without indentation; no imports, comments, empty lines, or lines of a bracket or quotes alone."""
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    skipped = {number for node in imports for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    stripped = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if number not in skipped)
    return [(number, line) for number, line in stripped if len(line) > 3 and not line.startswith("#")]


def repeated_blocks(texts: dict[str, str]) -> list[list[str]]:
    """Where each block of REPEATED_LINES stands that stands in more than one place; `texts` by file."""
    places: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for file, text in texts.items():
        lines = lines_that_say_something(text)
        for first in range(len(lines) - REPEATED_LINES + 1):
            window = lines[first : first + REPEATED_LINES]
            places[tuple(line for _, line in window)].append(f"{file}:{window[0][0]}")
    return [found for found in places.values() if len(found) > 1]


def test_no_block_stands_twice() -> None:
    texts = {str(path.relative_to(REPOSITORY)): path.read_text() for path in FILES}
    repeated = repeated_blocks(texts)
    assert not repeated, f"give what these share a name of its own: {repeated}"


def test_a_repeated_block_is_found_however_deep_it_stands() -> None:
    block = [f"value_{number} = {number}" for number in range(REPEATED_LINES)]
    plain, deep = "\n".join(block), "def f():\n" + "\n\n".join(f"    {line}  " for line in block)
    assert repeated_blocks({"a": plain, "b": deep}) == [["a:1", "b:2"]]
    assert repeated_blocks({"a": plain, "b": "\n".join(block[1:])}) == []
