"""The files of volumes from the API, and swapping them at once."""

import base64
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_local.node.atomic_directory import write_payload, written
from diffusion_local.node.configuration import Manifest
from diffusion_local.node.environment import Surroundings
from diffusion_local.node.payloads import (
    File,
    Payload,
    VolumeNotReady,
    referenced_by_volume,
    token_sources,
    volume_files,
)

POD = {"metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "b"}}, "spec": {"containers": []}}
MAP = {"data": {"a": "1", "b": "2"}}
SECRET = {"data": {"k": base64.b64encode(b"hidden").decode()}}
AROUND = Surroundings(
    POD, "ip", "host", {}, {("configmap", "m"): MAP, ("secret", "s"): SECRET, ("configmap", "no"): None}
)


def token(source: Manifest) -> str:
    return f"token for {source.get('audience')}"


def files(volume: dict[str, Any]) -> Payload | None:
    return volume_files(volume, AROUND, token)


def test_a_config_map_is_one_file_a_key() -> None:
    assert files({"configMap": {"name": "m"}}) == {"a": File(b"1"), "b": File(b"2")}


def test_chosen_keys_with_modes() -> None:
    items: list[dict[str, Any]] = [{"key": "a", "path": "x/y", "mode": 0o600}, {"key": "b", "path": "z"}]
    volume: dict[str, Any] = {"configMap": {"name": "m", "items": items, "defaultMode": 0o440}}
    assert files(volume) == {"x/y": File(b"1", 0o600), "z": File(b"2", 0o440)}
    items[0]["mode"] = volume["configMap"]["defaultMode"] = 0
    assert files(volume) == {"x/y": File(b"1", 0), "z": File(b"2", 0)}


def test_a_secret_is_decoded() -> None:
    assert files({"secret": {"secretName": "s", "defaultMode": 0o400}}) == {"k": File(b"hidden", 0o400)}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"name": "no"}, 'configmap "no" not found'),
        ({"name": "m", "items": [{"key": "c", "path": "c"}]}, "non-existent config key: c"),
    ],
)
def test_what_is_missing_is_said_unless_optional(source: dict[str, Any], message: str) -> None:
    with pytest.raises(VolumeNotReady, match=message):
        files({"configMap": source})
    assert files({"configMap": {**source, "optional": True}}) == {}


def test_a_projected_volume_joins_its_sources() -> None:
    sources = [
        {"serviceAccountToken": {"path": "token", "audience": "x"}},
        {"configMap": {"name": "m", "items": [{"key": "a", "path": "a"}]}},
        {"secret": {"name": "s"}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    found = files({"projected": {"sources": sources, "defaultMode": 0o444}})
    assert found == {
        "token": File(b"token for x", 0o444),
        "a": File(b"1", 0o444),
        "k": File(b"hidden", 0o444),
        "labels": File(b'a="b"', 0o444),
    }


def test_a_source_that_is_not_supported_is_named() -> None:
    with pytest.raises(VolumeNotReady, match="clusterTrustBundle"):
        files({"projected": {"sources": [{"clusterTrustBundle": {}}]}})


def test_other_volumes_have_no_files_from_the_api() -> None:
    assert files({"name": "x", "emptyDir": {}}) is None


def test_references_and_tokens_are_found() -> None:
    projected = {
        "projected": {
            "sources": [
                {"configMap": {"name": "m2"}},
                {"secret": {"name": "s2"}},
                {"serviceAccountToken": {"path": "t"}},
            ]
        }
    }
    assert referenced_by_volume({"configMap": {"name": "m"}}) == {("configmap", "m")}
    assert referenced_by_volume({"secret": {"secretName": "s"}}) == {("secret", "s")}
    assert referenced_by_volume(projected) == {("configmap", "m2"), ("secret", "s2")}
    assert token_sources(projected) == [{"path": "t"}]
    assert token_sources({"emptyDir": {}}) == []


PAYLOADS = st.dictionaries(
    st.sampled_from(["a", "b", "deep/c", "deep/d", "very/deep/e"]),
    st.builds(File, st.binary(max_size=20), st.sampled_from([0o400, 0o600, 0o644])),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(PAYLOADS, min_size=1, max_size=4))
def test_the_folder_holds_exactly_the_newest_files(
    tmp_path_factory: pytest.TempPathFactory, sets: list[Payload]
) -> None:
    folder = tmp_path_factory.mktemp("volume")
    for payload in sets:
        write_payload(folder, payload)
        assert written(folder) == payload
        for name, file in payload.items():
            assert (folder / name).read_bytes() == file.content
            assert stat.S_IMODE((folder / name).stat().st_mode) == file.mode
        shown = {entry.name for entry in folder.iterdir() if not entry.name.startswith("..")}
        assert shown == {Path(name).parts[0] for name in payload}
        assert len([entry for entry in folder.iterdir() if entry.name.startswith("..version")]) == 1


def test_the_same_files_are_not_written_again(tmp_path: Path) -> None:
    payload = {"a": File(b"1")}
    assert write_payload(tmp_path, payload)
    before = (tmp_path / "..data").readlink()
    assert not write_payload(tmp_path, payload)
    assert (tmp_path / "..data").readlink() == before


def test_an_open_folder_keeps_the_old_set_whole(tmp_path: Path) -> None:
    write_payload(tmp_path, {"a": File(b"1"), "b": File(b"1")})
    held = os.open(tmp_path / "a", os.O_RDONLY)
    write_payload(tmp_path, {"a": File(b"2"), "b": File(b"2")})
    assert os.read(held, 10) == b"1"
    os.close(held)
    assert {(tmp_path / name).read_bytes() for name in "ab"} == {b"2"}


def test_nothing_is_left_of_a_version_that_could_not_be_written(tmp_path: Path) -> None:
    write_payload(tmp_path, {"a": File(b"1")})
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(OSError, match="a"):
        write_payload(tmp_path, {"a": File(b"1"), "a/b": File(b"2")})
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert written(tmp_path) == {"a": File(b"1")}
