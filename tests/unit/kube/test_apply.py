from typing import Any

from diffusion_contract.names import SPEC_HASH_ANNOTATION
from diffusion_operator.kube.apply import stamped, why_to_send


def manifest(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "ns"}, "data": data}


def test_the_stamp_is_a_function_of_the_content_alone() -> None:
    one, two, other = stamped(manifest(x="1", y="2")), stamped(manifest(y="2", x="1")), stamped(manifest(x="2"))
    hashes = [sent["metadata"]["annotations"][SPEC_HASH_ANNOTATION] for sent in (one, two, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_stamping_leaves_the_manifest_and_its_annotations_alone() -> None:
    given = manifest(x="1")
    given["metadata"]["annotations"] = {"mine": "yes"}
    sent = stamped(given)
    assert sent["metadata"]["annotations"]["mine"] == "yes"
    assert given["metadata"]["annotations"] == {"mine": "yes"}


def test_string_data_is_sent_as_data_so_that_it_can_be_compared() -> None:
    sent = stamped({"kind": "Secret", "metadata": {"name": "a"}, "data": {"b": "Yg=="}, "stringData": {"a": "a"}})
    assert sent["data"] == {"a": "YQ==", "b": "Yg=="}
    assert "stringData" not in sent


def test_an_absent_object_is_sent() -> None:
    assert why_to_send(stamped(manifest()), None) == "it does not exist"


def test_nothing_is_sent_when_nothing_changed_and_the_server_added_its_defaults() -> None:
    sent = stamped(manifest(x="1"))
    live = {**sent, "immutable": False, "metadata": {**sent["metadata"], "uid": "1", "creationTimestamp": "now"}}
    assert why_to_send(sent, live) is None


def test_a_field_that_the_manifest_no_longer_has_is_a_reason_to_send() -> None:
    live = stamped(manifest(x="1", y="2"))
    assert why_to_send(stamped(manifest(x="1")), live) == "its manifest changed"


def test_a_hand_edit_is_a_reason_to_send_though_the_hash_still_stands() -> None:
    sent = stamped(manifest(x="1"))
    assert why_to_send(sent, {**sent, "data": {"x": "edited"}}) == "data.x was changed by someone else"


def test_a_removed_stamp_is_a_reason_to_send() -> None:
    sent = stamped(manifest(x="1"))
    assert why_to_send(sent, manifest(x="1")) == "its manifest changed"
