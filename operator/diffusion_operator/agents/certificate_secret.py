"""Keeps the agent API's certificates in a Secret, and the running server's TLS up to date with it."""

import asyncio
import logging
import ssl

from diffusion_contract.names import MANAGED_BY, MANAGED_BY_LABEL
from diffusion_operator.agents.tls import AgentCertificates, renewed
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import Conflict, KubeError
from diffusion_operator.kube.resources import SECRET
from diffusion_operator.loop.clock import Clock
from diffusion_operator.observe.snapshot import Raw

_log = logging.getLogger(__name__)

CHECK_SECONDS = 3600.0


class CertificateSecret:
    """The Secret `namespace/name` with certificates for `host`. Two operators at once end up with one set."""

    def __init__(self, client: ApiClient, namespace: str, name: str, host: str, clock: Clock) -> None:
        self._client, self._namespace, self._name = client, namespace, name
        self._host, self._clock = host, clock

    async def current(self) -> AgentCertificates:
        """The certificates to use now; made or renewed where that is due. Raises KubeError."""
        while True:
            secret = await self._client.get(SECRET, self._namespace, self._name)
            stored = AgentCertificates.from_data((secret or {}).get("data") or {})
            due = renewed(stored, self._host, self._clock.now())
            if due == stored:
                return due
            try:
                await self._store(secret, due)
            except Conflict:
                continue
            _log.info("renewed the agent API's certificates in the Secret %s/%s", self._namespace, self._name)
            return due

    async def await_current(self, pause: float) -> AgentCertificates:
        """As `current`, but where they cannot be had it is tried again after so many seconds."""
        while True:
            try:
                return await self.current()
            except KubeError as error:
                _log.warning("the agent API's certificates cannot be had now: %s", error)
                await asyncio.sleep(pause)

    async def keep(self, context: ssl.SSLContext, known: AgentCertificates) -> AgentCertificates:
        """Wait until the certificates change, load the new ones into the running server's TLS, and return them."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                found = await self.current()
            except KubeError as error:
                _log.warning("the agent API's certificates could not be checked: %s", error)
                continue
            if found != known:
                found.load_into(context)
                return found

    async def _store(self, secret: Raw | None, due: AgentCertificates) -> None:
        metadata = {"name": self._name, "namespace": self._namespace, "labels": {MANAGED_BY_LABEL: MANAGED_BY}}
        manifest = {"apiVersion": SECRET.api_version, "kind": SECRET.kind, "metadata": metadata}
        if secret is None:
            await self._client.create(SECRET, {**manifest, "type": "Opaque", "data": due.to_data()})
        else:
            await self._client.replace(SECRET, {**secret, "data": due.to_data()})
