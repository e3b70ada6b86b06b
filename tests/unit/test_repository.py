"""Promises about the repository itself: what would break a user's Python, leak a machine, or let pickle in."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for root in ("operator", "workloads", "local") for path in (REPOSITORY / root).rglob("*.py"))
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {("torch", "load"), ("torch", "save"), ("yaml", "load"), ("numpy", "load"), ("np", "load")}


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [REPOSITORY / name for name in listing.stdout.split("\0") if name and (REPOSITORY / name).is_file()]


def text_files() -> list[Path]:
    """What is read by people; not this file, which names what it forbids."""
    return [
        path for path in tracked_files() if path != Path(__file__).resolve() and path.suffix not in {".png", ".sum"}
    ]


@pytest.mark.parametrize("root", ["operator", "workloads", "local"])
def test_a_source_root_is_never_a_package(root: str) -> None:
    assert not (REPOSITORY / root / "__init__.py").exists()


def test_the_standard_library_operator_is_never_shadowed() -> None:
    program = "import operator; print(operator.__file__)"
    found = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert found.endswith("operator.py")
    assert REPOSITORY not in Path(found).parents


def imported_modules(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def forbidden_calls(tree: ast.AST) -> list[str]:
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    return [
        f"line {call.lineno}: {call.func.value.id}.{call.func.attr}"
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and (call.func.value.id, call.func.attr) in FORBIDDEN_CALLS
        and not any(
            keyword.arg == "allow_pickle" and ast.unparse(keyword.value) == "False" for keyword in call.keywords
        )
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_pickle(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not imported_modules(tree) & FORBIDDEN_MODULES
    assert not forbidden_calls(tree)


def test_the_pickle_rule_finds_pickle() -> None:
    tree = ast.parse("import pickle\nimport torch\ntorch.load('x')\nnp.load('y', allow_pickle=False)")
    assert imported_modules(tree) & FORBIDDEN_MODULES == {"pickle"}
    assert forbidden_calls(tree) == ["line 3: torch.load"]


PURE_ROOMS = [
    path
    for room in ("api", "observe", "plan", "children")
    for path in SOURCES
    if f"diffusion_operator/{room}/" in str(path)
]


@pytest.mark.parametrize("path", PURE_ROOMS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_pure_rooms_never_ask_for_the_time(path: Path) -> None:
    calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    names = {function.attr for function in calls if isinstance(function, ast.Attribute)}
    assert not names & {"now", "utcnow", "today", "monotonic", "perf_counter"}


def test_lock_files_have_hashes_and_no_address() -> None:
    for lock in sorted((REPOSITORY / "requirements").glob("*.txt")):
        text = lock.read_text()
        packages = re.findall(r"^[^#\s](?:.*\\\n)*.*", text, re.MULTILINE)
        assert packages
        loose = [one for one in packages if not re.match(r"[\w.-]+(\[[\w,]+\])?==\S+.*\\\n +--hash=sha256:", one)]
        assert not loose, f"{lock.name} leaves open which package this is: {loose}"
        assert not re.search(r"https?://|--index-url|--find-links", text), f"{lock.name} names an address"


def test_nothing_refers_to_one_machine() -> None:
    """Neither this checkout's place nor anybody's hidden files under a home folder."""
    places = re.compile(rf"{re.escape(str(REPOSITORY))}\b|/(root|home/[a-z]+)/\.")
    for path in text_files():
        found = places.search(path.read_text(errors="replace"))
        assert not found, f"{path.relative_to(REPOSITORY)} names a place of one machine: {found and found.group(0)}"


def test_the_repository_stands_alone() -> None:
    """Whatever a text refers to lies in the repository: no design papers elsewhere, no numbers of a tracker."""
    elsewhere = re.compile(r"\b(DESIGN|API|CLUSTER|STYLE)\.md\b|(?<![\w/])(shared|background)/|\b[Ii]ssue #?\d")
    for path in text_files():
        found = elsewhere.search(path.read_text(errors="replace"))
        assert not found, f"{path.relative_to(REPOSITORY)} refers to {found and found.group(0)}, which is not here"


def test_documents_can_be_read_in_120_columns() -> None:
    for path in text_files():
        lines = enumerate(path.read_text(errors="replace").splitlines(), 1) if path.suffix == ".md" else ()
        wide = [number for number, line in lines if len(line) > 120 and not line.startswith("| ")]
        assert not wide, f"{path.relative_to(REPOSITORY)} has lines that are too long, and no rows of a table: {wide}"


MARKDOWN_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
MENTIONED_DOCUMENT = re.compile(r"(?<![\w/])docs/[\w./-]+\.md\b")


def test_every_document_that_is_mentioned_exists() -> None:
    for path in text_files():
        text = path.read_text(errors="replace")
        mentioned = [REPOSITORY / name for name in MENTIONED_DOCUMENT.findall(text)]
        if path.suffix == ".md":
            mentioned += [path.parent / target for target in MARKDOWN_LINK.findall(text) if "://" not in target]
        missing = [str(target) for target in mentioned if not target.exists()]
        assert not missing, f"{path.relative_to(REPOSITORY)} points to what is not there: {missing}"


MARKDOWN_ANCHOR = re.compile(r"\[[^\]]*\]\(([^)#\s]*)#([^)\s]+)\)")


def anchors(document: Path) -> set[str]:
    """What the headings of `document` can be referred to by, as GitHub makes it of them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_section_that_is_referred_to_exists() -> None:
    found = [
        (path, path.parent / target if target else path, anchor)
        for path in text_files()
        if path.suffix == ".md"
        for target, anchor in MARKDOWN_ANCHOR.findall(path.read_text())
        if "://" not in target
    ]
    assert found
    for path, document, anchor in found:
        assert anchor in anchors(document), f"{path.relative_to(REPOSITORY)} refers to {document.name}#{anchor}"


NAMED_TEST = re.compile(r"`(tests/[\w./*-]+)(?:::(\w+))?`")


def test_the_tests_that_documents_name_exist() -> None:
    for path in text_files():
        for pattern, name in NAMED_TEST.findall(path.read_text(errors="replace")) if path.suffix == ".md" else ():
            found = list(REPOSITORY.glob(pattern))
            assert found, f"{path.relative_to(REPOSITORY)} names {pattern}, which is not there"
            assert not name or f"def {name}(" in found[0].read_text(), f"{pattern} has no {name}"


def test_the_track_record_names_each_bug_once() -> None:
    rows = (REPOSITORY / "docs/reliability.md").read_text().partition("## Track record")[2].splitlines()
    bugs = [row.split(" | ")[0] for row in rows if row.startswith("| ")]
    assert sorted(set(bugs)) == sorted(bugs)
