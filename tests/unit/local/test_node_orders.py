"""A node's name, addresses and capacity."""

from pathlib import Path

import pytest

from diffusion_local import node_orders
from diffusion_local.certificates import KeyPair
from diffusion_local.errors import LocalClusterError
from diffusion_local.network import node_address, node_pod_range
from diffusion_local.node.configuration import NodeConfiguration
from diffusion_local.node_orders import LEAST_CORES, ON_DEMAND, SPOT, NodeIdentity
from diffusion_local.state import StateFolder

PAIR = KeyPair(Path("c"), Path("k"))


def config(node: NodeIdentity) -> NodeConfiguration:
    return node_orders.node_config(
        node, StateFolder(Path("/s")), PAIR, PAIR, PAIR, node_orders.node_capacity(node.gpus, 2, 1024), 12
    )


def test_names_count_up_by_kind_and_numbers_over_all() -> None:
    taken: list[NodeIdentity] = []
    for kind in (ON_DEMAND, SPOT, SPOT, ON_DEMAND):
        taken.append(node_orders.next_identity(taken, None, kind, 0))
    assert [(node.name, node.index) for node in taken] == [("node-1", 1), ("spot-1", 2), ("spot-2", 3), ("node-2", 4)]


def test_a_gap_is_filled() -> None:
    taken = [NodeIdentity("node-2", 2, ON_DEMAND, 0)]
    assert node_orders.next_identity(taken, None, ON_DEMAND, 0) == NodeIdentity("node-1", 1, ON_DEMAND, 0)


def test_a_taken_name_is_refused_with_the_remedy() -> None:
    with pytest.raises(LocalClusterError, match="node recover a"):
        node_orders.next_identity([NodeIdentity("a", 1, SPOT, 0)], "a", SPOT, 0)


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a.b", "x" * 41, "ä"])
def test_a_name_that_is_no_dns_label_is_refused(name: str) -> None:
    with pytest.raises(LocalClusterError, match="cannot name a node"):
        node_orders.next_identity([], name, SPOT, 0)


@pytest.mark.parametrize("name", ["etcd", "kube-apiserver", "supervisor"])
def test_a_component_shares_its_log_with_no_node(name: str) -> None:
    with pytest.raises(LocalClusterError, match="the component of that name"):
        node_orders.next_identity([], name, SPOT, 0)


def test_what_a_node_is_told_is_what_it_reads(tmp_path: Path) -> None:
    told = config(NodeIdentity("n", 1, SPOT, 2))
    file = tmp_path / "config.json"
    file.write_text(told.to_json())
    assert NodeConfiguration.load(file) == told


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(config(NodeIdentity("n", 1, SPOT, 0)).to_json().replace("pod_cidr", "another"))
    with pytest.raises(KeyError, match="pod_cidr"):
        NodeConfiguration.load(file)


def test_the_address_range_ends() -> None:
    taken = [NodeIdentity(f"n{index}", index, SPOT, 0) for index in range(1, 255)]
    with pytest.raises(LocalClusterError, match="254 nodes already"):
        node_orders.next_identity(taken, None, SPOT, 0)


def test_addresses_lie_in_the_nodes_own_range() -> None:
    assert (node_address(7), node_pod_range(7)) == ("10.244.7.1", "10.244.7.0/24")


def test_capacity_is_generous_with_cores_and_honest_with_memory() -> None:
    assert node_orders.node_capacity(0, 2, 4 << 30) == {
        "cpu": str(LEAST_CORES),
        "memory": f"{4 << 20}Ki",
        "pods": "100",
        "ephemeral-storage": "20Gi",
    }
    assert node_orders.node_capacity(0, 64, 1 << 30)["cpu"] == "64"


def test_pretend_gpus_are_capacity_and_a_label() -> None:
    node = NodeIdentity("n", 1, SPOT, 4)
    shown = config(node)
    assert shown.capacity["nvidia.com/gpu"] == "4"
    assert shown.labels == {"karpenter.sh/capacity-type": "spot", "nvidia.com/gpu.present": "true"}


def test_a_node_renews_its_lease_four_times_before_it_counts_as_lost() -> None:
    assert config(NodeIdentity("n", 1, ON_DEMAND, 0)).lease_renew_seconds == 3
