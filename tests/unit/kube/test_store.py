import time
from typing import Any

from diffusion_operator.kube.resources import JOB, POD, TRAINING, Resource
from diffusion_operator.kube.store import Change, Store
from diffusion_operator.observe.snapshot import Raw


def thing(
    name: str, version: int, uid: str | None = None, owner: str | None = None, namespace: str = "ns", **more: Any
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "uid": uid or name,
        "resourceVersion": str(version),
    }
    if owner:
        metadata["ownerReferences"] = [{"uid": owner}]
    return {"metadata": metadata, **more}


def kept(store: Store, resource: Resource) -> Raw:
    """The object that stands in the store as `ns/a`."""
    found = store.get(resource, "ns", "a")
    assert found is not None
    return found


def told(store: Store) -> list[Change]:
    changes: list[Change] = []
    store.listeners.append(changes.append)
    return changes


def names(changes: list[Change]) -> list[tuple[str, str]]:
    return [
        (c.object["metadata"]["name"], "came" if c.old is None else "went" if c.new is None else "changed")
        for c in changes
    ]


def test_an_object_is_found_by_name_and_carries_its_kind() -> None:
    store = Store()
    store.put(JOB, thing("a", 1))
    found = kept(store, JOB)
    assert (found["apiVersion"], found["kind"]) == ("batch/v1", "Job")
    assert store.get(POD, "ns", "a") is None


def test_managed_fields_are_not_kept() -> None:
    store = Store()
    given = thing("a", 1)
    given["metadata"]["managedFields"] = [{"manager": "x"}]
    store.put(JOB, given)
    assert "managedFields" not in kept(store, JOB)["metadata"]
    assert "managedFields" in given["metadata"]


def test_children_are_found_by_the_uid_of_their_owner_and_not_by_a_name() -> None:
    store = Store()
    store.put(JOB, thing("a", 1, owner="uid-1"))
    store.put(POD, thing("b", 2, owner="uid-1"))
    store.put(POD, thing("c", 3, owner="uid-2"))
    assert [item["metadata"]["name"] for _, item in store.owned_by("uid-1")] == ["a", "b"]


def test_an_object_that_changes_its_owner_is_no_longer_found_under_the_old_one() -> None:
    store = Store()
    store.put(POD, thing("a", 1, owner="one"))
    store.put(POD, thing("a", 2, owner="two"))
    assert not list(store.owned_by("one"))
    assert [item["metadata"]["name"] for _, item in store.owned_by("two")] == ["a"]


def test_an_older_version_of_the_same_object_is_passed_over() -> None:
    store = Store()
    changes = told(store)
    store.put(POD, thing("a", 5, phase="new"))
    store.put(POD, thing("a", 4, phase="old"))
    store.put(POD, thing("a", 5, phase="again"))
    assert kept(store, POD)["phase"] == "new"
    assert names(changes) == [("a", "came")]


def test_a_namesake_replaces_the_object_before_it_and_never_the_one_after_it() -> None:
    store = Store()
    store.put(POD, thing("a", 3, uid="first"))
    store.put(POD, thing("a", 9, uid="second"))
    store.put(POD, thing("a", 5, uid="first"))
    assert kept(store, POD)["metadata"]["uid"] == "second"


def test_the_end_of_an_object_leaves_its_namesake_alone() -> None:
    store = Store()
    for resource in (TRAINING, POD):
        store.put(resource, thing("a", 1, uid="first"))
        store.put(resource, thing("a", 3, uid="second"))
        changes = told(store)
        store.remove(resource, thing("a", 2, uid="first"))
        assert kept(store, resource)["metadata"]["uid"] == "second"
        assert not changes


def test_the_end_of_a_custom_resource_may_be_told_before_its_last_change() -> None:
    store = Store()
    store.remove(TRAINING, thing("a", 2))
    store.put(TRAINING, thing("a", 1))
    assert store.get(TRAINING, "ns", "a") is None


def test_a_relist_replaces_the_store_and_tells_what_vanished() -> None:
    store = Store()
    for name in "ab":
        store.put(POD, thing(name, 1))
    changes = told(store)
    store.replace(POD, "", [thing("b", 2), thing("c", 3)], 10, time.monotonic())
    assert sorted(names(changes)) == [("a", "went"), ("b", "changed"), ("c", "came")]
    assert store.position(POD, "ns").resource_version == 10


def test_a_relist_that_brings_nothing_new_tells_nothing() -> None:
    store = Store()
    store.put(POD, thing("a", 1))
    changes = told(store)
    store.replace(POD, "", [thing("a", 1)], 10, time.monotonic())
    assert not changes


def test_a_relist_of_one_namespace_leaves_the_others_alone() -> None:
    store = Store()
    store.put(POD, thing("a", 1, namespace="other"))
    store.put(POD, thing("b", 1, uid="b"))
    store.replace(POD, "ns", [], 10, time.monotonic())
    assert store.get(POD, "other", "a") is not None
    assert store.get(POD, "ns", "b") is None


def test_a_custom_resource_that_was_seen_to_go_while_a_list_was_made_does_not_come_back() -> None:
    store = Store()
    store.put(TRAINING, thing("a", 1))
    began = time.monotonic()
    store.remove(TRAINING, thing("a", 1))
    store.replace(TRAINING, "", [thing("a", 1)], 2, began)
    assert store.get(TRAINING, "ns", "a") is None


def test_a_list_is_behind_what_the_other_stream_told_while_it_was_made() -> None:
    store = Store()
    store.put(TRAINING, thing("changed", 12))
    store.put(TRAINING, thing("new", 13))
    store.put(TRAINING, thing("replaced", 14, uid="second"))
    changes = told(store)
    listed = [thing("changed", 3), thing("replaced", 4, uid="first")]
    assert store.replace(TRAINING, "", listed, 11, time.monotonic()) == []
    assert not changes
    assert {item["metadata"]["resourceVersion"] for item in store.all(TRAINING)} == {"12", "13", "14"}


def test_a_list_that_is_ahead_of_the_other_stream_is_the_truth_and_says_what_was_new() -> None:
    store = Store()
    for name in ("changed", "gone", "same"):
        store.put(TRAINING, thing(name, 2))
    found = store.replace(TRAINING, "", [thing("changed", 5), thing("same", 2), thing("new", 6)], 7, time.monotonic())
    assert sorted(names(found)) == [("changed", "changed"), ("gone", "went"), ("new", "came")]


def test_a_lone_stream_follows_a_server_that_was_put_back_in_time() -> None:
    store = Store()
    store.put(POD, thing("kept", 100))
    store.put(POD, thing("gone", 101))
    store.replace(POD, "", [thing("kept", 3)], 10, time.monotonic())
    assert [item["metadata"]["resourceVersion"] for item in store.all(POD)] == ["3"]


def test_a_late_event_about_a_custom_resource_that_went_does_not_bring_it_back() -> None:
    store = Store()
    store.put(TRAINING, thing("a", 1))
    store.remove(TRAINING, thing("a", 1))
    store.put(TRAINING, thing("a", 2))
    assert store.get(TRAINING, "ns", "a") is None
    store.put(TRAINING, thing("a", 3, uid="a new one"))
    assert store.get(TRAINING, "ns", "a") is not None


def test_a_child_whose_label_was_taken_and_given_back_is_seen_again() -> None:
    store = Store()
    store.put(POD, thing("a", 1, owner="o"))
    store.remove(POD, thing("a", 1))
    store.put(POD, thing("a", 3, owner="o"))
    assert [item["metadata"]["name"] for _, item in store.owned_by("o")] == ["a"]


def test_removing_what_is_not_there_tells_nothing() -> None:
    store = Store()
    changes = told(store)
    store.remove(POD, thing("a", 1))
    assert not changes


def test_the_position_of_a_namespace_is_its_own_where_it_has_one() -> None:
    store = Store()
    store.replace(POD, "ns", [], 7, 1.0)
    store.replace(POD, "", [], 5, 1.0)
    assert store.position(POD, "ns").resource_version == 7
    assert store.position(POD, "elsewhere").resource_version == 5
