"""Whatever a manifest says under its true digest, it is opened inside the target or refused: nothing leaves the folder.

This is an attacker who may write to the volume and who got a reference to his own manifest accepted.
"""

import copy
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_contract.digest import sha256_of
from diffusion_contract.model_reference import ModelReference
from diffusion_registry.image_layout import blob_path, publish
from diffusion_registry.oci_documents import canonical_json
from diffusion_registry.verification import ModelVersionRefused, open_model_version
from tiny_models import version_config

NAMES = st.one_of(
    st.sampled_from(["a.json", "b/c.json", "../x.json", "/x.json", "a.json/b.json", ".", "..", "", "x.py", "~/x.json"]),
    st.text("ab./\\\0", max_size=8).map(lambda text: text + ".json"),
    st.text(max_size=6),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-1, 10**6), st.text(max_size=5), st.just([]), st.just({}))


@pytest.fixture(scope="module")
def published() -> Iterator[tuple[Path, dict[str, Any]]]:
    """A models directory, and the manifest of the version in it."""
    root = Path(tempfile.mkdtemp())
    folder = root / "folder"
    folder.mkdir()
    for name in ("a.json", "b.json", "c.md"):
        (folder / name).write_text(name)
    layout = root / "models" / "claim" / "digits"
    digest = publish(folder, layout, version_config(), "step-1")
    yield root, json.loads(blob_path(layout, digest).read_bytes())
    shutil.rmtree(root)


def open_or_refuse(root: Path, manifest: dict[str, Any]) -> None:
    content = canonical_json(manifest)
    blob_path(root / "models" / "claim" / "digits", sha256_of(content)).write_bytes(content)
    around = Path(tempfile.mkdtemp(dir=root))
    target = around / "inner" / "opened"
    opened = False
    with suppress(ModelVersionRefused):
        open_model_version(root / "models", ModelReference("claim", "digits", sha256_of(content)), target)
        opened = True
    assert target.exists() == opened
    assert all(path.is_dir() or path.suffix in {".json", ".md"} for path in target.rglob("*"))
    outside = [path for path in around.rglob("*") if path.is_file() and target not in path.parents]
    shutil.rmtree(around)
    assert outside == []


@settings(deadline=None, max_examples=80)
@given(names=st.lists(NAMES, min_size=3, max_size=3))
def test_any_file_names_stay_inside_or_are_refused(published: tuple[Path, dict[str, Any]], names: list[str]) -> None:
    root, manifest = published
    changed = copy.deepcopy(manifest)
    for layer, name in zip(changed["layers"], names, strict=True):
        layer["annotations"]["org.opencontainers.image.title"] = name
    open_or_refuse(root, changed)


def places_in(document: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths of all values in a JSON document."""
    entries = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [place for key, value in entries for place in [(*path, key), *places_in(value, (*path, key))]]


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_any_value_anywhere_is_opened_or_refused(published: tuple[Path, dict[str, Any]], data: st.DataObject) -> None:
    root, manifest = published
    changed = copy.deepcopy(manifest)
    *way, last = data.draw(st.sampled_from(places_in(changed)), label="place")
    holder: Any = changed
    for key in way:
        holder = holder[key]
    holder[last] = data.draw(SCALARS, label="value")
    open_or_refuse(root, changed)
