"""Leadership: one Lease, held by one process at a time, as client-go's leader election does it (15, 10 and 2 seconds).

Times in the Lease are never compared with this machine's clock. A candidate watches the record and takes it over when
it has not changed for a whole lease duration by the candidate's own monotonic clock; a leader that could not renew for
`renew_seconds` by its own monotonic clock gives up first. So skewed clocks do no harm.

A process that was stopped or starved meanwhile wakes up in the middle of its work, before it looks at the clock. So
what it writes goes out by a FencedTransport.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import ApiRefusal, Conflict, KubeError, Unreachable
from diffusion_operator.kube.resources import LEASE
from diffusion_operator.observe.snapshot import Raw

_log = logging.getLogger(__name__)


class LeadershipLost(Exception):
    """Another holds the lease, or it could not be renewed in time: this process must end."""


@dataclass
class Leadership:
    """A claim on the Lease `namespace/name` by `identity`. Durations are seconds."""

    client: ApiClient
    namespace: str
    name: str
    identity: str
    lease_seconds: int = 15
    renew_seconds: float = 10.0
    retry_seconds: float = 2.0
    _seen: tuple[Any, ...] = ()
    _seen_at: float = field(default=float("-inf"))
    _renewed: float = field(default=float("-inf"))

    @property
    def is_held(self) -> bool:
        """Whether this process may still act as the leader: it renewed the lease lately, and has not given it back."""
        return time.monotonic() - self._renewed < self.renew_seconds

    async def acquire(self) -> None:
        """Wait until this process is the leader."""
        while True:
            began = time.monotonic()
            try:
                if await self._take():
                    self._renewed = began
                    _log.info("%s leads", self.identity)
                    return
            except (ApiRefusal, Unreachable) as error:
                _log.warning("the lease cannot be had now: %s", error)
            await asyncio.sleep(self.retry_seconds)

    async def hold(self) -> None:
        """Renew until cancelled; raises LeadershipLost."""
        while True:
            await asyncio.sleep(self.retry_seconds)
            why = "the API server did not answer"
            began = time.monotonic()
            try:
                async with asyncio.timeout_at(self._deadline()):
                    if not await self._take():
                        self._forfeit()
                        raise LeadershipLost(f"another process holds the lease {self.namespace}/{self.name}")
                self._renewed = began
                continue
            except Conflict:
                continue
            except (KubeError, TimeoutError) as error:
                why = str(error) or why
            if not self.is_held:
                raise LeadershipLost(f"the lease was not renewed for {self.renew_seconds:g} s: {why}")

    async def release(self) -> None:
        """Let the next one in at once. Raises KubeError; harmless when this process is not the leader."""
        self._forfeit()
        while True:
            lease = await self.client.get(LEASE, self.namespace, self.name)
            if lease is None or _spec_of(lease).get("holderIdentity") != self.identity:
                return
            spec = {**_spec_of(lease), "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
            try:
                await self.client.replace(LEASE, {**lease, "spec": spec})
            except Conflict:
                continue  # The last renewal was under way still.
            return

    async def _take(self) -> bool:
        lease = await self.client.get(LEASE, self.namespace, self.name)
        if lease is None:
            manifest = {
                "apiVersion": LEASE.api_version,
                "kind": LEASE.kind,
                "metadata": {"name": self.name, "namespace": self.namespace},
            }
            await self.client.create(LEASE, {**manifest, "spec": self._spec({})})
            return True
        spec = _spec_of(lease)
        if spec.get("holderIdentity") not in (self.identity, "", None) and not self._is_expired(spec):
            return False
        await self.client.replace(LEASE, {**lease, "spec": self._spec(spec)})
        return True

    def _is_expired(self, spec: Raw) -> bool:
        record = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if record != self._seen:
            self._seen, self._seen_at = record, time.monotonic()
        return time.monotonic() - self._seen_at >= float(spec.get("leaseDurationSeconds", self.lease_seconds))

    def _spec(self, before: Raw) -> dict[str, Any]:
        ours = before.get("holderIdentity") == self.identity  # Of a record that was edited by hand, anything may lack.
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.lease_seconds,
            "acquireTime": (before.get("acquireTime") if ours else None) or _now(),
            "renewTime": _now(),
            "leaseTransitions": before.get("leaseTransitions", 0) + (0 if ours or not before else 1),
        }

    def _forfeit(self) -> None:
        self._renewed = float("-inf")

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + max(0.0, self._renewed + self.renew_seconds - time.monotonic())


def _spec_of(lease: Raw) -> Raw:
    return lease.get("spec") or {}  # The chart makes it empty.


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
