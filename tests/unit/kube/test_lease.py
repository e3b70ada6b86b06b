import asyncio
import time
from typing import Any

import pytest

from diffusion_operator.kube.errors import Unreachable
from diffusion_operator.kube.lease import Leadership, LeadershipLost
from one_object_api import OneObjectApi


class LeaseServer(OneObjectApi):
    """One Lease, and a switch for failures."""

    down = False

    async def arrive(self) -> None:
        """See OneObjectApi.arrive."""
        if self.down:
            raise Unreachable("down")

    @property
    def spec(self) -> dict[str, Any]:
        """What the Lease says now; AssertionError where there is none."""
        spec: dict[str, Any] = self.stored["spec"]
        return spec

    @property
    def holder(self) -> str:
        return str(self.spec["holderIdentity"])


class Clocks:
    """A monotonic clock that only sleeping moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await real_sleep(0)


real_sleep = asyncio.sleep


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def claim(server: LeaseServer, identity: str) -> Leadership:
    return Leadership(server, "system", "diffusion-operator", identity)


async def test_a_free_lease_is_taken_at_once(clock: Clocks) -> None:
    server = LeaseServer()
    await claim(server, "a").acquire()
    assert server.holder == "a"
    assert server.spec["leaseDurationSeconds"] == 15
    assert clock.now == 1000.0


async def test_a_held_lease_is_waited_for_until_it_has_not_moved_for_its_whole_duration(clock: Clocks) -> None:
    server = LeaseServer()
    await claim(server, "a").acquire()
    await claim(server, "b").acquire()
    assert server.holder == "b"
    assert 1015 <= clock.now <= 1018
    assert server.spec["leaseTransitions"] == 1


async def test_times_in_the_lease_are_not_believed_whatever_the_other_s_clock_says(clock: Clocks) -> None:
    for told in ("1970-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"):
        server = LeaseServer()
        await claim(server, "a").acquire()
        server.spec["renewTime"] = told
        began = clock.now
        await claim(server, "b").acquire()
        assert 15 <= clock.now - began <= 18


async def test_a_holder_that_renews_keeps_it(clock: Clocks) -> None:
    server, other = LeaseServer(), claim(LeaseServer(), "b")
    first = claim(server, "a")
    await first.acquire()
    other.client = server
    renewing = asyncio.create_task(first.hold())
    waiting = asyncio.create_task(other.acquire())
    for _ in range(200):
        await real_sleep(0)
    assert not waiting.done()
    assert {write["spec"]["holderIdentity"] for write in server.writes} == {"a"}
    for task in (renewing, waiting):
        task.cancel()
    await asyncio.gather(renewing, waiting, return_exceptions=True)


async def test_a_released_lease_is_taken_without_waiting(clock: Clocks) -> None:
    server = LeaseServer()
    first = claim(server, "a")
    await first.acquire()
    await first.release()
    await claim(server, "b").acquire()
    assert (server.holder, clock.now) == ("b", 1000.0)


async def test_releasing_what_another_holds_changes_nothing(clock: Clocks) -> None:
    server = LeaseServer()
    await claim(server, "a").acquire()
    await claim(server, "b").release()
    assert server.holder == "a"


async def test_a_leader_that_sees_another_holder_stops_at_once(clock: Clocks) -> None:
    server = LeaseServer()
    first = claim(server, "a")
    await first.acquire()
    server.spec["holderIdentity"] = "b"
    with pytest.raises(LeadershipLost, match="another process holds the lease system/diffusion-operator"):
        await first.hold()
    assert clock.now == 1002


async def test_a_leader_that_cannot_renew_gives_up_before_another_may_take_over(clock: Clocks) -> None:
    server = LeaseServer()
    first = claim(server, "a")
    await first.acquire()
    server.down = True
    with pytest.raises(LeadershipLost, match="not renewed for 10 s: down"):
        await first.hold()
    assert 1010 <= clock.now < 1015


async def test_a_short_outage_is_survived(clock: Clocks) -> None:
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


async def test_of_two_that_come_at_once_one_leads(clock: Clocks) -> None:
    server = LeaseServer()
    claims = [claim(server, identity) for identity in "ab"]
    tasks = [asyncio.create_task(one.acquire()) for one in claims]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert [task.done() for task in tasks].count(True) == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(
    "part", ["acquireTime", "renewTime", "leaseDurationSeconds", "leaseTransitions", "holderIdentity"]
)
async def test_a_record_that_was_edited_by_hand_is_mended_by_who_holds_it(clock: Clocks, part: str) -> None:
    server = LeaseServer()
    first = claim(server, "a")
    await first.acquire()
    del server.spec[part]
    holding = asyncio.create_task(first.hold())
    while len(server.writes) < 3:
        assert not holding.done(), holding.exception()
        await real_sleep(0)
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)
    assert server.holder == "a"
    assert part in server.spec


async def test_it_is_held_from_the_taking_until_it_was_not_renewed_in_time_whatever_was_noticed(clock: Clocks) -> None:
    first = claim(LeaseServer(), "a")
    assert not first.is_held
    await first.acquire()
    assert first.is_held
    clock.now += 9.9
    assert first.is_held
    clock.now += 0.1
    assert not first.is_held, "the process may have been stopped: nothing ran meanwhile, and the next one comes soon"


async def test_it_is_held_no_longer_once_it_is_given_back_or_another_is_seen_to_hold_it(clock: Clocks) -> None:
    server = LeaseServer()
    first, second = claim(server, "a"), claim(server, "b")
    await first.acquire()
    await first.release()
    assert not first.is_held
    await second.acquire()
    server.spec["holderIdentity"] = "c"
    with pytest.raises(LeadershipLost):
        await second.hold()
    assert not second.is_held
