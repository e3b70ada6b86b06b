import time
from typing import Any

from diffusion_operator.kube.own_writes import OwnWrites
from diffusion_operator.kube.resources import CONFIG_MAP
from diffusion_operator.kube.store import Store
from diffusion_operator.plan.plan import ObjectReference


def config_map(version: int, uid: str = "u", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a", "namespace": "ns", "uid": uid, "resourceVersion": str(version), **metadata}}


def make() -> tuple[Store, OwnWrites]:
    store = Store()
    return store, OwnWrites(store)


def test_it_is_not_ahead_before_anything_was_written() -> None:
    _, writes = make()
    assert not writes.is_ahead("key")


def test_it_is_ahead_until_the_store_shows_what_was_written() -> None:
    store, writes = make()
    store.put(CONFIG_MAP, config_map(3))
    writes.note("key", CONFIG_MAP, config_map(5))
    assert writes.is_ahead("key")
    store.put(CONFIG_MAP, config_map(4))
    assert writes.is_ahead("key")
    store.put(CONFIG_MAP, config_map(5))
    assert not writes.is_ahead("key")


def test_only_the_custom_resource_that_wrote_waits() -> None:
    _, writes = make()
    writes.note("key", CONFIG_MAP, config_map(5))
    assert not writes.is_ahead("another")


def test_a_watch_that_came_past_the_write_shows_it_even_when_the_object_is_gone_again() -> None:
    store, writes = make()
    writes.note("key", CONFIG_MAP, config_map(5))
    store.position(CONFIG_MAP, "ns").resource_version = 6
    assert not writes.is_ahead("key")


def test_a_list_that_began_after_the_write_shows_it_even_when_versions_went_back() -> None:
    store, writes = make()
    writes.note("key", CONFIG_MAP, config_map(500))
    store.replace(CONFIG_MAP, "", [], 3, time.monotonic() + 1)
    assert not writes.is_ahead("key")


def test_a_list_that_began_before_the_write_does_not() -> None:
    store, writes = make()
    began = time.monotonic()
    writes.note("key", CONFIG_MAP, config_map(500))
    store.replace(CONFIG_MAP, "", [], 3, began)
    assert writes.is_ahead("key")


def test_a_deleted_object_is_waited_for_until_it_is_gone_or_going() -> None:
    store, writes = make()
    store.put(CONFIG_MAP, config_map(3))
    writes.note_deleted("key", CONFIG_MAP, ObjectReference("v1", "ConfigMap", "ns", "a", "u", "3"))
    assert writes.is_ahead("key")
    store.put(CONFIG_MAP, config_map(4, deletionTimestamp="now"))
    assert not writes.is_ahead("key")


def test_a_namesake_after_a_deletion_shows_the_deletion() -> None:
    store, writes = make()
    store.put(CONFIG_MAP, config_map(3))
    writes.note_deleted("key", CONFIG_MAP, ObjectReference("v1", "ConfigMap", "ns", "a", "u", "3"))
    store.put(CONFIG_MAP, config_map(9, uid="another"))
    assert not writes.is_ahead("key")


def test_what_is_forgotten_is_not_waited_for() -> None:
    _, writes = make()
    writes.note("key", CONFIG_MAP, config_map(5))
    writes.forget("key")
    assert not writes.is_ahead("key")
