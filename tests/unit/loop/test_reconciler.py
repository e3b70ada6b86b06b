"""The order of one reconcile, which is what makes a crash harmless."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from diffusion_contract.agent_messages import Instruction, TrainerInstruction
from diffusion_operator.kube.cluster import REFUSED, Cluster
from diffusion_operator.kube.errors import ApiRefusal, Conflict, NamespaceEnding
from diffusion_operator.kube.failing_writes import PATIENCE
from diffusion_operator.kube.keys import Key
from diffusion_operator.loop.reconciler import SOON, Reconciler
from diffusion_operator.observe.agent_reports import AgentRecord
from diffusion_operator.observe.snapshot import Raw, Refusal, Snapshot, Sought
from diffusion_operator.plan.kind import Kind
from diffusion_operator.plan.plan import Event, Manifest, ObjectReference, Plan
from operator_harness import FACTS

KEY = Key("DiffusionTraining", "ns", "digits")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CUSTOM_RESOURCE: dict[str, Any] = {
    "kind": "DiffusionTraining",
    "metadata": {"name": "digits", "namespace": "ns", "uid": "u"},
}
REFERENCE = ObjectReference("v1", "ConfigMap", "ns", "old", "u2", "1")
PLAN = Plan(
    apply=(
        {"kind": "ConfigMap", "metadata": {"name": "first"}},
        {"kind": "Job", "metadata": {"name": "second"}},
    ),
    status={"phase": "Running"},
    instructions={"pod": TrainerInstruction(attempt=1, generation=1)},
    events=(Event("Moved", "it moved"),),
    delete=(REFERENCE,),
    requeue_seconds=7,
)


Decide = Callable[[Any, datetime], Plan]


class Recorder(Cluster):
    """A cluster and a book of reports that note the order of calls, and fail where they are told to."""

    def __init__(
        self,
        custom_resource: Raw | None = CUSTOM_RESOURCE,
        behind: bool = False,
        failing: str = "",
        error: Exception | None = None,
    ) -> None:
        self.behind, self.failing, self.error = behind, failing, error or AssertionError("not told how to fail")
        self.seen = custom_resource
        self.steps: list[str] = []
        self.refusals: tuple[Refusal, ...] = ()
        self.unread: tuple[Refusal, ...] = ()

    def step(self, name: str) -> None:
        self.steps.append(name)
        if name == self.failing:
            raise self.error

    async def snapshot(self, key: Key, kind: Sought) -> Snapshot | None:
        return None if self.seen is None else Snapshot(self.seen, FACTS, refusals=self.unread)

    def remember_refusals(self, key: Key, refusals: tuple[Refusal, ...]) -> bool:
        news, self.refusals = refusals != self.refusals, refusals
        return news

    def is_behind_our_last_write(self, key: Key) -> bool:
        return self.behind

    async def apply(self, key: Key, manifest: Manifest) -> str:
        self.step(f"apply {manifest['metadata']['name']}")
        return "it does not exist"

    async def put_status(self, key: Key, seen: Raw, status: Manifest) -> None:
        self.step(f"status {status['phase']}")

    async def event(self, about: Raw, event: Event, now: datetime) -> None:
        self.step(f"event {event.reason}")

    async def delete(self, key: Key, reference: ObjectReference) -> bool:
        self.step(f"delete {reference.name}")
        return True

    async def rehearse(self, key: Key, manifests: Iterable[Manifest]) -> bool:
        for manifest in manifests:
            self.step(f"rehearse {manifest['metadata']['name']}")
        return bool(manifests)

    def about(self, key: Key) -> Mapping[str, AgentRecord]:
        return {}

    def answer(self, key: Key, instructions: Mapping[str, Instruction]) -> None:
        self.step(f"answer {sorted(instructions)}")

    def forget(self, key: Key) -> None:
        self.steps.append("forget")


class FixedClock:
    def now(self) -> datetime:
        return NOW


def reconciler(recorder: Recorder, decide: Decide = lambda world, now: PLAN) -> Reconciler:
    kind = Kind(KEY.kind, lambda snapshot, reports: snapshot, decide, lambda _: ())
    return Reconciler(recorder, {KEY.kind: kind}, recorder, FixedClock())


ORDER = [
    "apply first",
    "apply second",
    "status Running",
    "answer ['pod']",
    "event Moved",
    "delete old",
]


async def test_apply_then_record_then_tell_then_destroy() -> None:
    recorder = Recorder()
    assert await reconciler(recorder).reconcile(KEY) == 7
    assert recorder.steps == ORDER


@pytest.mark.parametrize("number", [0, 1, 2, 3, 5])
async def test_nothing_follows_a_step_that_failed(number: int) -> None:
    recorder = Recorder(failing=ORDER[number], error=Conflict(409, "Conflict", "changed"))
    with pytest.raises(Conflict):
        await reconciler(recorder).reconcile(KEY)
    assert recorder.steps == ORDER[: number + 1]


async def test_a_rehearsal_is_last_and_its_news_are_looked_at_soon() -> None:
    recorder = Recorder()
    asking = replace(PLAN, rehearse=({"kind": "Job", "metadata": {"name": "next"}},))
    assert await reconciler(recorder, lambda world, now: asking).reconcile(KEY) == SOON
    assert recorder.steps == [*ORDER, "rehearse next"]


async def test_an_event_that_is_lost_stops_nothing() -> None:
    recorder = Recorder(failing="event Moved", error=ApiRefusal(500, "InternalError", "no"))
    await reconciler(recorder).reconcile(KEY)
    assert recorder.steps == ORDER


async def test_a_status_of_none_is_left_alone() -> None:
    recorder = Recorder()
    await reconciler(recorder, lambda world, now: Plan()).reconcile(KEY)
    assert recorder.steps == ["answer []"]


async def test_nothing_is_decided_on_a_view_older_than_our_own_last_write() -> None:
    recorder = Recorder(behind=True)

    def decide(world: Any, now: datetime) -> Plan:
        raise AssertionError("not now")

    assert await reconciler(recorder, decide).reconcile(KEY) == SOON
    assert recorder.steps == []


@pytest.mark.parametrize("seen", [None, {**CUSTOM_RESOURCE, "metadata": {"deletionTimestamp": "now"}}])
async def test_a_custom_resource_that_is_gone_or_going_is_forgotten_and_nothing_is_made(seen: Raw | None) -> None:
    recorder = Recorder(custom_resource=seen)
    assert await reconciler(recorder).reconcile(KEY) is None
    assert set(recorder.steps) == {"forget"}


async def test_the_decision_sees_the_time_of_the_clock() -> None:
    times = []

    def decide(world: Any, now: datetime) -> Plan:
        times.append(now)
        return Plan()

    await reconciler(Recorder(), decide).reconcile(KEY)
    assert times == [NOW]


async def test_what_the_api_server_refuses_for_good_is_told_to_the_next_pass_and_the_rest_goes_on() -> None:
    refused = ApiRefusal(403, "Forbidden", "exceeded quota")
    recorder = Recorder(failing="apply first", error=refused)
    assert await reconciler(recorder).reconcile(KEY) == SOON
    assert recorder.steps == ORDER
    (told,) = recorder.refusals
    assert (told.kind, told.name, told.code, told.message) == ("ConfigMap", "first", 403, "exceeded quota")
    assert await reconciler(recorder).reconcile(KEY) == 7, "no news, and the plan wants to look again before long"


async def test_a_custom_resource_in_a_namespace_that_ends_is_looked_at_once_and_its_namesake_anew() -> None:
    ending = NamespaceEnding(403, "Forbidden", "unable to create new content")
    recorder = Recorder(failing="apply first", error=ending)
    one = reconciler(recorder)
    assert [await one.reconcile(KEY) for _ in range(3)] == [None, None, None]
    assert recorder.steps == ["apply first"]
    recorder.failing, recorder.seen = "", {**CUSTOM_RESOURCE, "metadata": {**CUSTOM_RESOURCE["metadata"], "uid": "u9"}}
    recorder.steps.clear()
    assert await one.reconcile(KEY) == 7
    assert recorder.steps == ORDER


async def test_what_may_not_be_read_is_tried_again_before_long_whatever_the_plan_wants() -> None:
    recorder, seldom = Recorder(), replace(PLAN, requeue_seconds=700)
    one = reconciler(recorder, lambda world, now: seldom)
    assert await one.reconcile(KEY) == 700
    recorder.unread = (Refusal("Secret", "keys", 403, "forbidden", is_read=True),)
    assert await one.reconcile(KEY) == REFUSED
    assert recorder.refusals == (), "a write was not refused"


async def test_a_refusal_that_is_over_is_news_too() -> None:
    recorder = Recorder(failing="apply first", error=ApiRefusal(403, "Forbidden", "exceeded quota"))
    await reconciler(recorder).reconcile(KEY)
    recorder.failing = ""
    assert await reconciler(recorder).reconcile(KEY) == SOON
    assert recorder.refusals == ()


@pytest.mark.parametrize("code", [500, 503, 504])
async def test_a_server_that_fails_is_no_refusal(code: int) -> None:
    recorder = Recorder(failing="apply first", error=ApiRefusal(code, "InternalError", "no"))
    with pytest.raises(ApiRefusal):
        await reconciler(recorder).reconcile(KEY)
    assert recorder.steps == ["apply first"]


async def test_a_server_that_goes_on_failing_at_one_object_is_told_to_the_next_pass_and_the_rest_goes_on() -> None:
    said = 'failed calling webhook "policy.example.com"'
    recorder = Recorder(failing="apply first", error=ApiRefusal(500, "InternalError", said))
    one = reconciler(recorder)
    for _ in range(PATIENCE - 1):
        with pytest.raises(ApiRefusal):
            await one.reconcile(KEY)
    recorder.steps.clear()
    assert await one.reconcile(KEY) == SOON
    assert recorder.steps == ORDER
    (told,) = recorder.refusals
    assert (told.kind, told.code, told.message) == ("ConfigMap", 500, said)
    assert await one.reconcile(KEY) == 7, "and stays so"
    recorder.failing = ""
    assert await one.reconcile(KEY) == SOON
    assert recorder.refusals == ()


async def test_failures_that_are_not_one_after_the_other_are_a_moment_s() -> None:
    recorder = Recorder(error=ApiRefusal(500, "InternalError", "no"))
    one = reconciler(recorder)
    for _ in range(PATIENCE):
        recorder.failing = "apply second"
        with pytest.raises(ApiRefusal):
            await one.reconcile(KEY)
        recorder.failing = ""
        await one.reconcile(KEY)
    assert recorder.refusals == ()
