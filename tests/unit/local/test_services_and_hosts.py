"""Services and EndpointSlices to addresses and names."""

from typing import Any

import pytest

from diffusion_local.hosts import HEADER, render_hosts
from diffusion_local.options import ForwardTarget
from diffusion_local.services import forward_backends, route_table, slices_by_service


def service(
    name: str, address: str | None, *ports: dict[str, Any], namespace: str = "ns", **labels: str
) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"clusterIP": address, "ports": list(ports)},
    }


def endpoint_slice(
    owner: str, *endpoints: dict[str, Any], namespace: str = "ns", ports: tuple[dict[str, Any], ...] = ({"port": 8000},)
) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{owner}-x", "namespace": namespace, "labels": {"kubernetes.io/service-name": owner}},
        "ports": list(ports),
        "endpoints": list(endpoints),
    }


def endpoint(address: str, ready: bool | None = True, hostname: str | None = None) -> dict[str, Any]:
    conditions = {} if ready is None else {"ready": ready}
    return {"addresses": [address], "conditions": conditions} | ({"hostname": hostname} if hostname else {})


def routes(services: list[dict[str, Any]], *slices: dict[str, Any]) -> dict[tuple[str, int], list[tuple[str, int]]]:
    return route_table(services, slices_by_service(slices))


def hosts(services: list[dict[str, Any]], *slices: dict[str, Any]) -> list[str]:
    return render_hosts(services, slices_by_service(slices)).removeprefix(HEADER).splitlines()


class TestRoutes:
    def test_only_ready_endpoints_are_behind_an_address(self) -> None:
        web = service("web", "10.96.0.9", {"port": 80})
        found = routes([web], endpoint_slice("web", endpoint("10.244.1.2"), endpoint("10.244.1.3", ready=False)))
        assert found == {("10.96.0.9", 80): [("10.244.1.2", 8000)]}

    def test_an_endpoint_without_a_condition_counts_as_ready(self) -> None:
        web = service("web", "10.96.0.9", {"port": 80})
        found = routes([web], endpoint_slice("web", endpoint("10.244.1.2", ready=None)))
        assert found["10.96.0.9", 80] == [("10.244.1.2", 8000)]

    def test_ports_are_matched_by_name(self) -> None:
        web = service("web", "10.96.0.9", {"port": 80, "name": "http"}, {"port": 9090, "name": "metrics"})
        ports = ({"port": 8080, "name": "http"}, {"port": 9091, "name": "metrics"})
        found = routes([web], endpoint_slice("web", endpoint("10.244.1.2"), ports=ports))
        assert found == {("10.96.0.9", 80): [("10.244.1.2", 8080)], ("10.96.0.9", 9090): [("10.244.1.2", 9091)]}

    def test_slices_of_one_service_are_joined_without_doubles(self) -> None:
        web = service("web", "10.96.0.9", {"port": 80})
        one = endpoint_slice("web", endpoint("10.244.1.2"), endpoint("10.244.1.3"))
        two = endpoint_slice("web", endpoint("10.244.1.3"))
        assert routes([web], one, two)["10.96.0.9", 80] == [("10.244.1.2", 8000), ("10.244.1.3", 8000)]

    def test_a_service_without_pods_keeps_its_address_with_nothing_behind(self) -> None:
        assert routes([service("web", "10.96.0.9", {"port": 80})]) == {("10.96.0.9", 80): []}

    def test_the_same_name_in_another_namespace_is_another_service(self) -> None:
        web = service("web", "10.96.0.9", {"port": 80})
        found = routes([web], endpoint_slice("web", endpoint("10.244.1.2"), namespace="other"))
        assert found["10.96.0.9", 80] == []

    @pytest.mark.parametrize("address", [None, "", "None"])
    def test_headless_and_external_services_have_no_route(self, address: str | None) -> None:
        assert routes([service("web", address, {"port": 80})]) == {}

    def test_udp_is_left_out(self) -> None:
        assert routes([service("dns", "10.96.0.9", {"port": 53, "protocol": "UDP"})]) == {}


class TestForward:
    def test_the_first_router_by_name_is_chosen(self) -> None:
        label = {"app.kubernetes.io/component": "router"}
        services = [
            service("b", "10.96.0.2", {"port": 80}, **label),
            service("a", "10.96.0.1", {"port": 80}, **label),
            service("0", "10.96.0.3", {"port": 80}),
        ]
        slices = slices_by_service([endpoint_slice("a", endpoint("10.244.1.1")), endpoint_slice("b")])
        assert forward_backends(None, services, slices) == [("10.244.1.1", 8000)]

    def test_the_router_of_a_namespace_is_found_whatever_routers_others_have(self) -> None:
        label = {"app.kubernetes.io/component": "router"}
        services = [
            service("door", "10.96.0.1", {"port": 80}, namespace="default", **label),
            service("0", "10.96.0.2", {"port": 80}, namespace="demo"),
            service("digits-router-x", "10.96.0.3", {"port": 80}, namespace="demo", **label),
        ]
        slices = slices_by_service(
            [
                endpoint_slice("door", endpoint("10.244.1.1"), namespace="default"),
                endpoint_slice("digits-router-x", endpoint("10.244.1.2"), namespace="demo"),
            ]
        )
        assert forward_backends(ForwardTarget.parse("demo"), services, slices) == [("10.244.1.2", 8000)]
        assert forward_backends(None, services, slices) == [("10.244.1.1", 8000)]

    def test_a_router_with_nothing_behind_it_hides_no_other(self) -> None:
        label = {"app.kubernetes.io/component": "router"}
        services = [
            service("door", "10.96.0.1", {"port": 80}, namespace="a-namespace-that-ends", **label),
            service("door", "10.96.0.2", {"port": 80}, namespace="demo", **label),
        ]
        slices = slices_by_service(
            [
                endpoint_slice("door", endpoint("10.244.1.1", ready=False), namespace="a-namespace-that-ends"),
                endpoint_slice("door", endpoint("10.244.1.2"), namespace="demo"),
            ]
        )
        assert forward_backends(None, services, slices) == [("10.244.1.2", 8000)]

    @pytest.mark.parametrize("port", ["80", "http"])
    def test_a_target_is_found_by_port_number_and_name(self, port: str) -> None:
        target = ForwardTarget.parse(f"ns/web:{port}")
        ports = ({"port": 8080, "name": "http"},)
        slices = slices_by_service([endpoint_slice("web", endpoint("10.244.1.1"), ports=ports)])
        services = [service("web", "10.96.0.9", {"port": 80, "name": "http"})]
        assert forward_backends(target, services, slices) == [("10.244.1.1", 8080)]

    def test_nothing_to_forward_to_is_no_error(self) -> None:
        assert forward_backends(None, [], {}) == []
        assert forward_backends(ForwardTarget.parse("ns/web:80"), [], {}) == []

    @pytest.mark.parametrize("text", ["", "ns/", "/", "ns/web", "ns/web:", "/web:80", "ns/:80", "web:80"])
    def test_another_form_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="NAMESPACE or NAMESPACE/SERVICE:PORT"):
            ForwardTarget.parse(text)


class TestHosts:
    def test_a_service_has_its_long_names(self) -> None:
        lines = hosts([service("web", "10.96.0.9", {"port": 80})])
        assert lines == ["10.96.0.9 web.ns.svc.cluster.local web.ns.svc web.ns"]

    def test_a_headless_service_names_every_ready_pod_and_the_pods_have_their_own(self) -> None:
        lines = hosts(
            [service("w", "None")],
            endpoint_slice("w", endpoint("10.244.1.3", hostname="w-1"), endpoint("10.244.1.2", hostname="w-0")),
            endpoint_slice("w", endpoint("10.244.1.4", ready=False, hostname="w-2")),
        )
        assert lines == [
            "10.244.1.2 w-0.w.ns.svc.cluster.local w-0.w.ns.svc w-0.w.ns",
            "10.244.1.2 w.ns.svc.cluster.local w.ns.svc w.ns",
            "10.244.1.3 w-1.w.ns.svc.cluster.local w-1.w.ns.svc w-1.w.ns",
            "10.244.1.3 w.ns.svc.cluster.local w.ns.svc w.ns",
        ]

    def test_the_file_does_not_depend_on_the_order_in_which_things_were_heard(self) -> None:
        services = [service("b", "10.96.0.2"), service("a", "10.96.0.1"), service("h", "None")]
        slices = [endpoint_slice("h", endpoint("10.244.1.2")), endpoint_slice("h", endpoint("10.244.1.1"))]
        assert hosts(services, *slices) == hosts(services[::-1], *slices[::-1])

    def test_a_service_without_an_address_yet_has_no_line(self) -> None:
        assert hosts([service("web", None)]) == []
        assert hosts([service("w", "None")]) == []

    def test_localhost_is_always_there(self) -> None:
        assert "127.0.0.1 localhost" in render_hosts([], {})

    def test_a_slice_without_a_service_is_left_out(self) -> None:
        stray = endpoint_slice("x", endpoint("10.244.1.2"))
        stray["metadata"]["labels"] = None
        assert slices_by_service([stray]) == {}
