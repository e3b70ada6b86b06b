"""What holds for any Services and EndpointSlices, however they come."""

import ipaddress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from diffusion_local.hosts import HEADER, render_hosts
from diffusion_local.services import route_table, slices_by_service

NAMES = st.sampled_from(["a", "b", "c"])
NAMESPACES = st.sampled_from(["one", "two"])
POD_ADDRESSES = st.integers(2, 40).map(lambda last: f"10.244.1.{last}")
PORTS = st.sampled_from([{"port": 80}, {"port": 81, "name": "x"}, {"port": 82, "protocol": "UDP"}])


@st.composite
def services(draw: st.DrawFn) -> list[dict[str, Any]]:
    keys = draw(st.sets(st.tuples(NAMESPACES, NAMES)))
    return [
        {
            "metadata": {"namespace": namespace, "name": name},
            "spec": {
                "clusterIP": draw(st.sampled_from(["None", None, f"10.96.0.{number}"])),
                "ports": draw(st.lists(PORTS, unique_by=str)),
            },
        }
        for number, (namespace, name) in enumerate(sorted(keys), start=2)
    ]


ENDPOINTS = st.fixed_dictionaries(
    {
        "addresses": st.lists(POD_ADDRESSES, min_size=1, max_size=2),
        "conditions": st.sampled_from([{}, {"ready": True}, {"ready": False}]),
    },
    optional={"hostname": NAMES},
)
SLICES = st.lists(
    st.builds(
        lambda namespace, owner, ports, endpoints: {
            "metadata": {"namespace": namespace, "name": "s", "labels": {"kubernetes.io/service-name": owner}},
            "ports": ports,
            "endpoints": endpoints,
        },
        NAMESPACES,
        NAMES,
        st.lists(PORTS),
        st.lists(ENDPOINTS),
    )
)


@given(services(), SLICES)
def test_no_route_leads_to_a_pod_that_is_not_ready(wanted: list[dict[str, Any]], slices: list[dict[str, Any]]) -> None:
    ready = {
        address
        for item in slices
        for endpoint in item["endpoints"]
        if endpoint["conditions"].get("ready") is not False
        for address in endpoint["addresses"]
    }
    for targets in route_table(wanted, slices_by_service(slices)).values():
        assert {address for address, _ in targets} <= ready
        assert len(set(targets)) == len(targets)


@given(services(), SLICES, st.randoms())
def test_names_and_routes_do_not_depend_on_order(
    wanted: list[dict[str, Any]], slices: list[dict[str, Any]], random: Any
) -> None:
    hosts, routes = render_hosts(wanted, slices_by_service(slices)), route_table(wanted, slices_by_service(slices))
    random.shuffle(wanted)
    random.shuffle(slices)
    assert render_hosts(wanted, slices_by_service(slices)) == hosts
    assert route_table(wanted, slices_by_service(slices)) == routes


@given(services(), SLICES)
def test_every_line_of_the_hosts_file_is_an_address_and_names_of_its_service(
    wanted: list[dict[str, Any]], slices: list[dict[str, Any]]
) -> None:
    known = {f"{item['metadata']['name']}.{item['metadata']['namespace']}" for item in wanted}
    for line in render_hosts(wanted, slices_by_service(slices)).removeprefix(HEADER).splitlines():
        address, *names = line.split()
        ipaddress.ip_address(address)
        assert any(names[-1] == one or names[-1].endswith(f".{one}") for one in known)
        assert names[0] == f"{names[-1]}.svc.cluster.local"
