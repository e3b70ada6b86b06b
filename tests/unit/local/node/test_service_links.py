"""Services as variables."""

import asyncio
import ssl
from typing import Any

import pytest

from diffusion_local.node.api_client import ApiClient
from diffusion_local.node.service_links import ServiceLinks
from tiny_api import TinyApi, eventually, with_tiny_api


def service(name: str, *ports: dict[str, Any], namespace: str = "n", address: str = "10.96.0.7") -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, "resourceVersion": "2"}
    return {"metadata": meta, "spec": {"clusterIP": address, "ports": list(ports)}}


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "n"}, "spec": spec}


API = service("kubernetes", {"name": "https", "port": 443}, namespace="default", address="10.96.0.1")


def links(*services: dict[str, Any]) -> ServiceLinks:
    made = ServiceLinks(ApiClient("", ssl.create_default_context()))
    made.services = {(each["metadata"]["namespace"], each["metadata"]["name"]): each for each in services}
    return made


def test_every_variable_of_a_service() -> None:
    ports = {"name": "http", "port": 80}, {"name": "dns-udp", "port": 53, "protocol": "UDP"}
    found = links(service("web-app", *ports)).environment(pod())
    assert found == {
        "WEB_APP_SERVICE_HOST": "10.96.0.7",
        "WEB_APP_SERVICE_PORT": "80",
        "WEB_APP_SERVICE_PORT_HTTP": "80",
        "WEB_APP_SERVICE_PORT_DNS_UDP": "53",
        "WEB_APP_PORT": "tcp://10.96.0.7:80",
        "WEB_APP_PORT_80_TCP": "tcp://10.96.0.7:80",
        "WEB_APP_PORT_80_TCP_PROTO": "tcp",
        "WEB_APP_PORT_80_TCP_PORT": "80",
        "WEB_APP_PORT_80_TCP_ADDR": "10.96.0.7",
        "WEB_APP_PORT_53_UDP": "udp://10.96.0.7:53",
        "WEB_APP_PORT_53_UDP_PROTO": "udp",
        "WEB_APP_PORT_53_UDP_PORT": "53",
        "WEB_APP_PORT_53_UDP_ADDR": "10.96.0.7",
    }


@pytest.mark.parametrize(("spec", "seen"), [({}, True), ({"enableServiceLinks": False}, False)])
def test_those_of_the_namespace_as_wished_and_the_api_servers_always(spec: dict[str, Any], seen: bool) -> None:
    found = links(API, service("web", {"port": 80}), service("far", {"port": 80}, namespace="other"))
    names = found.environment(pod(**spec))
    assert {"KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT_HTTPS", "KUBERNETES_PORT_443_TCP"} <= set(names)
    assert ("WEB_SERVICE_HOST" in names) == seen
    assert "FAR_SERVICE_HOST" not in names


def test_services_come_and_go_and_those_without_an_address_are_left_out() -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        for each in (API, service("old", {"port": 1}), service("headless", {"port": 80}, address="None")):
            server.put("ADDED", each)
        followed = ServiceLinks(client)
        task = asyncio.create_task(followed.follow())
        await followed.heard.wait()
        await eventually(lambda: server.watches, "the watch is open")
        server.put("DELETED", service("old", {"port": 1}))
        server.put("ADDED", service("new", {"port": 2}))
        await eventually(lambda: ("n", "new") in followed.services, "the new Service is heard of")
        assert {name for _, name in followed.services} == {"kubernetes", "new"}
        server.put("MODIFIED", service("new", address="None"))
        await eventually(lambda: ("n", "new") not in followed.services, "it has no address any more")
        task.cancel()

    with_tiny_api(test)
