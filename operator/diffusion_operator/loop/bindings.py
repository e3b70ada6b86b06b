"""kopf as the ear: it hears the two kinds, and does nothing but store what it heard (docs/adr/0001)."""

import asyncio
import base64
import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

import kopf

from diffusion_contract.names import GROUP, VERSION
from diffusion_operator.kube.connection import Connection
from diffusion_operator.kube.resources import CUSTOM_RESOURCES, Resource
from diffusion_operator.kube.store import Store
from diffusion_operator.loop.hearing import Hearing
from diffusion_operator.observe.snapshot import Raw


def quiet_settings() -> kopf.OperatorSettings:
    """Kopf without everything that writes into objects or posts events."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.chunk_size = 500
    settings.watching.inactivity_timeout = 90
    settings.networking.error_backoffs = (0.2, 0.5, 1, 2, 3, 5, 8, 13, 21, 34)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    return settings


def registry_of(connection: Connection, store: Store, hearing: Hearing) -> kopf.OperatorRegistry:
    """Kopf's handlers: one for each kind, and the login."""
    registry = kopf.OperatorRegistry()
    for resource in CUSTOM_RESOURCES:
        _hear(registry, resource, store, hearing)

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return _login(connection)

    return registry


async def listen(
    connection: Connection,
    store: Store,
    hearing: Hearing,
    namespaces: Sequence[str],
    settings: kopf.OperatorSettings,
    retake_signals: Callable[[], None] = lambda: None,
) -> None:
    """Run kopf until it is cancelled. "" among `namespaces`, or none, is all of them.

    `retake_signals` is called when kopf has taken SIGTERM and SIGINT for itself. Kopf would wait at its end for every
    task that was begun after its start, and each connection of an agent is one: the end must not begin with kopf.
    """
    everywhere = not any(namespaces)
    tasks_before = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry_of(connection, store, hearing),
        settings=settings,
        standalone=True,
        clusterwide=everywhere,
        namespaces=() if everywhere else tuple(namespaces),
        identity=cast("Any", "diffusion-operator"),
    )
    retake_signals()
    await kopf.run_tasks(tasks, ignored=tasks_before)


def _hear(registry: kopf.OperatorRegistry, resource: Resource, store: Store, hearing: Hearing) -> None:
    @kopf.on.event(GROUP, VERSION, resource.plural, registry=registry, id=f"hear-{resource.plural}")
    async def heard(event: Any, **_: Any) -> None:
        item: Raw = event["object"]
        if event["type"] == "DELETED":
            hearing.told_gone(resource, item)
            store.remove(resource, item)
        else:
            hearing.told(resource, item)
            store.put(resource, item)


def _login(connection: Connection) -> kopf.ConnectionInfo:
    connection.authorization()  # Reads the newest token.
    return kopf.ConnectionInfo(
        server=connection.server,
        ca_data=_base64(connection.ca),
        insecure=not connection.verify,
        token=connection.token,
        certificate_data=_base64(connection.client_certificate),
        private_key_data=_base64(connection.client_key),
        default_namespace=connection.namespace,
    )


def _base64(pem: str | None) -> str | None:
    return base64.b64encode(pem.encode()).decode() if pem else None
