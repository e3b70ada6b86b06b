"""Services as environment variables of the containers that start after them (`enableServiceLinks`)."""

import asyncio
from collections.abc import Iterator, Mapping

from diffusion_local.node.api_client import ApiClient
from diffusion_local.node.configuration import Manifest

API_SERVICE = ("default", "kubernetes")
NO_ADDRESS = (None, "", "None")


class ServiceLinks:
    """All Services of the cluster, kept up to date."""

    def __init__(self, api: ApiClient) -> None:
        self.api = api
        self.services: dict[tuple[str, str], Manifest] = {}
        """By namespace and name; those without an address of their own are not there."""
        self.heard = asyncio.Event()
        """Set once the Service of the API server is known: a new cluster has it a moment after its start."""

    async def follow(self) -> None:
        """Hear about Services, for ever."""
        async for change in self.api.follow("/api/v1/services"):
            if change.kind == "Listed":
                self.services.clear()
            for service in change.items:
                key = (service["metadata"]["namespace"], service["metadata"]["name"])
                self.services.pop(key, None)
                if change.kind != "Gone" and service["spec"].get("clusterIP") not in NO_ADDRESS:
                    self.services[key] = service
            if API_SERVICE in self.services:
                self.heard.set()

    def environment(self, pod: Manifest) -> dict[str, str]:
        """Variables for the Services of the pod's namespace, unless it wants none, and always for the API server's."""
        namespace, linked = pod["metadata"]["namespace"], pod["spec"].get("enableServiceLinks", True)
        api = {name: found for (place, name), found in self.services.items() if (place, name) == API_SERVICE}
        own = {name: found for (place, name), found in self.services.items() if place == namespace and linked}
        return dict(pair for service in (api | own).values() for pair in variables(service))


def variable_part(name: str) -> str:
    """A name of the API as part of a variable's name."""
    return name.upper().replace("-", "_")


def variables(service: Mapping[str, Manifest]) -> Iterator[tuple[str, str]]:
    """The names and values for one Service: Kubernetes' own, then those of Docker's links."""
    name, address = variable_part(service["metadata"]["name"]), service["spec"]["clusterIP"]
    ports = service["spec"].get("ports") or []
    yield f"{name}_SERVICE_HOST", address
    host = f"[{address}]" if ":" in address else address
    for index, port in enumerate(ports):
        number, protocol = str(port["port"]), port.get("protocol", "TCP")
        url = f"{protocol.lower()}://{host}:{number}"
        if index == 0:
            yield f"{name}_SERVICE_PORT", number
            yield f"{name}_PORT", url
        if port.get("name"):
            yield f"{name}_SERVICE_PORT_{variable_part(port['name'])}", number
        prefix = f"{name}_PORT_{number}_{protocol.upper()}"
        yield prefix, url
        yield from ((f"{prefix}_PROTO", protocol.lower()), (f"{prefix}_PORT", number), (f"{prefix}_ADDR", address))
