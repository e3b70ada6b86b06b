import asyncio

import pytest

from diffusion_operator.kube import lease as lease_module
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import Conflict, Unreachable, refusal
from diffusion_operator.kube.lease import Leadership, LeadershipLost


class LeaseServer(ApiClient):
    """One Lease with optimistic concurrency, and switches for failures."""

    def __init__(self):
        self.lease, self.version, self.down, self.takes = None, 0, False, []

    def _check(self):
        if self.down:
            raise Unreachable("down")

    async def get(self, resource, namespace, name):
        self._check()
        return self.lease

    async def create(self, resource, manifest):
        self._check()
        if self.lease is not None:
            raise refusal(409, "AlreadyExists", "there")
        return self._store(manifest)

    async def replace(self, resource, manifest, subresource=""):
        self._check()
        if manifest["metadata"]["resourceVersion"] != str(self.version):
            raise Conflict(409, "Conflict", "changed")
        return self._store(manifest)

    def _store(self, manifest):
        self.version += 1
        self.takes.append(manifest["spec"]["holderIdentity"])
        self.lease = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self.version)}}
        return self.lease

    @property
    def holder(self):
        return self.lease["spec"]["holderIdentity"]


class Clocks:
    """A monotonic clock that only sleeping moves."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(lease_module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(lease_module.asyncio, "sleep", self.sleep)

    async def sleep(self, seconds):
        self.now += seconds
        await real_sleep(0)


real_sleep = asyncio.sleep


@pytest.fixture
def clock(monkeypatch):
    return Clocks(monkeypatch)


def claim(server, identity):
    return Leadership(server, "system", "diffusion-operator", identity)


async def test_a_free_lease_is_taken_at_once(clock):
    server = LeaseServer()
    await claim(server, "a").acquire()
    assert server.holder == "a"
    assert server.lease["spec"]["leaseDurationSeconds"] == 15
    assert clock.now == 1000.0


async def test_a_held_lease_is_waited_for_until_it_has_not_moved_for_its_whole_duration(clock):
    server = LeaseServer()
    await claim(server, "a").acquire()
    await claim(server, "b").acquire()
    assert server.holder == "b"
    assert 1015 <= clock.now <= 1018
    assert server.lease["spec"]["leaseTransitions"] == 1


async def test_times_in_the_lease_are_not_believed_whatever_the_other_s_clock_says(clock):
    for told in ("1970-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"):
        server = LeaseServer()
        await claim(server, "a").acquire()
        server.lease["spec"]["renewTime"] = told
        began = clock.now
        await claim(server, "b").acquire()
        assert 15 <= clock.now - began <= 18


async def test_a_holder_that_renews_keeps_it(clock):
    server, other = LeaseServer(), claim(LeaseServer(), "b")
    first = claim(server, "a")
    await first.acquire()
    other.client = server
    renewing = asyncio.create_task(first.hold())
    waiting = asyncio.create_task(other.acquire())
    for _ in range(200):
        await real_sleep(0)
    assert not waiting.done()
    assert set(server.takes) == {"a"}
    for task in (renewing, waiting):
        task.cancel()
    await asyncio.gather(renewing, waiting, return_exceptions=True)


async def test_a_released_lease_is_taken_without_waiting(clock):
    server = LeaseServer()
    first = claim(server, "a")
    await first.acquire()
    await first.release()
    await claim(server, "b").acquire()
    assert (server.holder, clock.now) == ("b", 1000.0)


async def test_releasing_what_another_holds_changes_nothing(clock):
    server = LeaseServer()
    await claim(server, "a").acquire()
    await claim(server, "b").release()
    assert server.holder == "a"


async def test_a_leader_that_sees_another_holder_stops_at_once(clock):
    server = LeaseServer()
    first = claim(server, "a")
    await first.acquire()
    server.lease["spec"]["holderIdentity"] = "b"
    with pytest.raises(LeadershipLost, match="another process holds the lease system/diffusion-operator"):
        await first.hold()
    assert clock.now == 1002


async def test_a_leader_that_cannot_renew_gives_up_before_another_may_take_over(clock):
    server = LeaseServer()
    first = claim(server, "a")
    await first.acquire()
    server.down = True
    with pytest.raises(LeadershipLost, match="not renewed for 10 s: down"):
        await first.hold()
    assert 1010 <= clock.now < 1015


async def test_a_short_outage_is_survived(clock):
    server = LeaseServer()
    first = claim(server, "a")
    await first.acquire()
    server.down = True
    holding = asyncio.create_task(first.hold())
    while clock.now < 1006:
        await real_sleep(0)
    server.down = False
    while clock.now < 1040:
        await real_sleep(0)
    assert not holding.done()
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)


async def test_of_two_that_come_at_once_one_leads(clock):
    server = LeaseServer()
    claims = [claim(server, identity) for identity in "ab"]
    tasks = [asyncio.create_task(one.acquire()) for one in claims]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert [task.done() for task in tasks].count(True) == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
