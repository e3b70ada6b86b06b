"""Services at work: proxies on their addresses, the hosts file, and the one that is forwarded to the outside."""

import asyncio
import itertools
import logging
from collections.abc import Callable
from pathlib import Path

from diffusion_local import forward
from diffusion_local.hosts import render_hosts
from diffusion_local.network import API_PORT, API_SERVICE_ADDRESS, API_SERVICE_PORT
from diffusion_local.node.api_client import ApiClient
from diffusion_local.options import ForwardTarget
from diffusion_local.services import Address, forward_backends, route_table, slices_by_service
from diffusion_local.state import write_atomically
from diffusion_local.store import Store

LOG = logging.getLogger(__name__)
SETTLE_SECONDS = 0.02
"""Changes that come together are applied together."""
API_ROUTE = {(API_SERVICE_ADDRESS, API_SERVICE_PORT): [("127.0.0.1", API_PORT)]}
"""The Service `kubernetes` has no endpoints of its own here."""


class ServiceNetwork:
    """Follows Services and EndpointSlices and keeps addresses and names as they say."""

    def __init__(self, client: ApiClient, hosts: Path, forwarded: ForwardTarget | None) -> None:
        self._hosts = hosts
        self._forwarded = forwarded
        self._changed = asyncio.Event()
        self._services = Store(client, "/api/v1/services", self._changed.set)
        self._slices = Store(client, "/apis/discovery.k8s.io/v1/endpointslices", self._changed.set)
        self._routes: dict[Address, list[Address]] = {}
        self._outside: list[Address] = []
        self._servers: dict[Address, asyncio.Server] = {}
        self._turn = itertools.count()
        self._written = ""

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._services.run())
            tasks.create_task(self._slices.run())
            tasks.create_task(self._apply_changes())

    def choose_forwarded(self) -> Address | None:
        """Return where the next connection from outside goes; None while nothing is ready."""
        return self._next_of(self._outside)

    async def _apply_changes(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            self._changed.clear()
            await self._apply()

    async def _apply(self) -> None:
        services = list(self._services.objects.values())
        slices = slices_by_service(self._slices.objects.values())
        self._routes = route_table(services, slices) | API_ROUTE
        self._outside = forward_backends(self._forwarded, services, slices)
        content = render_hosts(services, slices)
        if content != self._written:
            write_atomically(self._hosts, content, mode=0o644)
            self._written = content
        for address in self._servers.keys() - self._routes.keys():
            self._servers.pop(address).close()
        for address in self._routes.keys() - self._servers.keys():
            await self._listen(address)

    async def _listen(self, address: Address) -> None:
        try:
            self._servers[address] = await forward.serve_address(address, self._chooser(address))
        except OSError as error:
            LOG.warning("cannot listen on %s:%s: %s", *address, error)

    def _chooser(self, address: Address) -> Callable[[], Address | None]:
        return lambda: self._next_of(self._routes.get(address, []))

    def _next_of(self, backends: list[Address]) -> Address | None:
        return backends[next(self._turn) % len(backends)] if backends else None
