"""The documents that people copy from: each example is a good object, each command names what exists."""

import re
import shlex
from typing import Any

import click
import pytest
import yaml

from diffusion_local.command import main as local
from diffusion_operator.api.service_spec import parse_service_spec
from diffusion_operator.api.training_spec import parse_training
from diffusion_operator.cli.kubectl_plugin import main as plugin
from shown_objects import DOCUMENTS, REPOSITORY, custom_resources, fenced_yaml

PARSE = {"DiffusionTraining": parse_training, "DiffusionService": parse_service_spec}


def examples() -> list[dict[str, Any]]:
    """All custom resources in fenced YAML of the documents."""
    return [found for text in fenced_yaml().values() for found in custom_resources(text)]


def commands(name: str) -> list[list[str]]:
    """The words after `name` of every shown command line that begins with it."""
    lines = [line for path in DOCUMENTS for line in re.findall(rf"^\$? ?{name} (.+)$", path.read_text(), re.MULTILINE)]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example["kind"])
def test_an_example_is_a_good_object(example: dict[str, Any]) -> None:
    stored = {"namespace": "default", "uid": "7", "generation": 1}
    PARSE[example["kind"]](example | {"metadata": example["metadata"] | stored})


def test_both_kinds_are_shown() -> None:
    assert {example["kind"] for example in examples()} == set(PARSE)


def test_what_is_applied_exists_and_what_is_described_was_applied() -> None:
    applied = [REPOSITORY / words[2] for words in commands("kubectl") if words[:2] == ["apply", "-f"]]
    assert applied
    names = {found["metadata"]["name"] for path in applied for found in yaml.safe_load_all(path.read_text())}
    described = [words[2] for words in commands("kubectl") if words[:2] == ["diffusion", "describe"]]
    assert described
    assert set(described) <= names


def test_the_documents_that_a_visitor_looks_for_are_there() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/architecture.md"):
        assert (REPOSITORY / name).read_text().startswith("# "), name
    assert (REPOSITORY / "LICENSE").read_text().split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert (REPOSITORY / "docs/images/digits.png").read_bytes().startswith(b"\x89PNG")


def test_every_decision_is_in_the_list_of_them() -> None:
    records = REPOSITORY / "docs" / "adr"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\) \|", (records / "README.md").read_text())
    assert listed == sorted(path.name for path in records.glob("[0-9]*.md"))
    subjects = " ".join(listed)
    assert all(word in subjects for word in ("kopf", "own-agent", "hand-written-crds", "embedded-cluster", "oci-model"))


def test_make_is_asked_for_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    asked = {word for path in DOCUMENTS for word in re.findall(r"`make ([a-z0-9-]+)", path.read_text())}
    asked |= {words[0] for words in commands("make")}
    assert asked
    assert asked <= targets


@pytest.mark.parametrize(("program", "group"), [("diffusion-local", local), ("kubectl diffusion", plugin)])
def test_subcommands_that_are_shown_exist(program: str, group: click.Group) -> None:
    shown = {words[0] for words in commands(program)}
    shown |= {word for path in DOCUMENTS for word in re.findall(rf"{program} ([a-z]+)", path.read_text())}
    assert shown
    assert shown <= set(group.commands)
