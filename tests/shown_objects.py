"""The custom resources that people copy: the files in examples/, and the fenced YAML of the documents."""

import re
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
PLACES = ("*.md", "docs/**/*.md", "charts/*/README.md", "local/*.md")
DOCUMENTS = sorted(path for place in PLACES for path in REPOSITORY.glob(place))
KINDS = ("DiffusionTraining", "DiffusionService")


def example_files() -> dict[str, str]:
    """The text of each file in examples/, by its name."""
    return {path.name: path.read_text() for path in sorted((REPOSITORY / "examples").glob("*.yaml"))}


def fenced_yaml() -> dict[str, str]:
    """Each fenced YAML of a document that holds a custom resource, by the document's name and its place there."""
    blocks = {
        f"{path.relative_to(REPOSITORY)}-{number}": text
        for path in DOCUMENTS
        for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL))
    }
    return {name: text for name, text in blocks.items() if custom_resources(text)}


def custom_resources(text: str) -> list[dict[str, Any]]:
    """The custom resources in some YAML."""
    found = yaml.safe_load_all(text)
    return [item for item in found if isinstance(item, dict) and item.get("kind") in KINDS]
