"""The order of one reconcile, which is what makes a crash harmless."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from diffusion_contract.agent_messages import TrainerInstruction
from diffusion_operator.kube.errors import ApiRefusal, Conflict
from diffusion_operator.kube.failing_writes import PATIENCE
from diffusion_operator.kube.keys import Key
from diffusion_operator.loop.reconciler import SOON, Reconciler
from diffusion_operator.observe.snapshot import Snapshot
from diffusion_operator.plan.kind import Kind
from diffusion_operator.plan.plan import Event, ObjectReference, Plan
from operator_harness import FACTS

KEY = Key("DiffusionTraining", "ns", "digits")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CUSTOM_RESOURCE = {"kind": "DiffusionTraining", "metadata": {"name": "digits", "namespace": "ns", "uid": "u"}}
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


class Recorder:
    """A cluster and a book of reports that note the order of calls, and fail where they are told to."""

    def __init__(self, custom_resource=CUSTOM_RESOURCE, behind=False, failing="", error=None):
        self.steps, self.behind, self.failing, self.error = [], behind, failing, error
        self.seen, self.refusals = custom_resource, ()

    def step(self, name):
        self.steps.append(name)
        if name == self.failing:
            raise self.error

    async def snapshot(self, key, kind):
        return self.seen and Snapshot(self.seen, FACTS)

    def remember_refusals(self, key, refusals):
        news, self.refusals = refusals != self.refusals, refusals
        return news

    def is_behind_our_last_write(self, key):
        return self.behind

    async def apply(self, key, manifest):
        self.step(f"apply {manifest['metadata']['name']}")
        return "it does not exist"

    async def put_status(self, key, seen, status):
        self.step(f"status {status['phase']}")
        return True

    async def event(self, about, event, now):
        self.step(f"event {event.reason}")

    async def delete(self, key, reference):
        self.step(f"delete {reference.name}")
        return True

    async def rehearse(self, key, manifests):
        for manifest in manifests:
            self.step(f"rehearse {manifest['metadata']['name']}")
        return bool(manifests)

    def about(self, key):
        return {}

    def answer(self, key, instructions):
        self.step(f"answer {sorted(instructions)}")

    def forget(self, key):
        self.steps.append("forget")


class FixedClock:
    def now(self):
        return NOW


def reconciler(recorder, decide=lambda world, now: PLAN):
    kind = Kind(KEY.kind, "diffusiontrainings", "label", lambda snapshot, reports: snapshot, decide, lambda _: ())
    return Reconciler(recorder, {KEY.kind: kind}, recorder, FixedClock())


ORDER = [
    "apply first",
    "apply second",
    "status Running",
    "answer ['pod']",
    "event Moved",
    "delete old",
]


async def test_apply_then_record_then_tell_then_destroy():
    recorder = Recorder()
    assert await reconciler(recorder).reconcile(KEY) == 7
    assert recorder.steps == ORDER


@pytest.mark.parametrize("number", [0, 1, 2, 3, 5])
async def test_nothing_follows_a_step_that_failed(number):
    recorder = Recorder(failing=ORDER[number], error=Conflict(409, "Conflict", "changed"))
    with pytest.raises(Conflict):
        await reconciler(recorder).reconcile(KEY)
    assert recorder.steps == ORDER[: number + 1]


async def test_a_rehearsal_is_last_and_its_news_are_looked_at_soon():
    recorder = Recorder()
    asking = replace(PLAN, rehearse=({"kind": "Job", "metadata": {"name": "next"}},))
    assert await reconciler(recorder, lambda world, now: asking).reconcile(KEY) == SOON
    assert recorder.steps == [*ORDER, "rehearse next"]


async def test_an_event_that_is_lost_stops_nothing():
    recorder = Recorder(failing="event Moved", error=ApiRefusal(500, "InternalError", "no"))
    await reconciler(recorder).reconcile(KEY)
    assert recorder.steps == ORDER


async def test_a_status_of_none_is_left_alone():
    recorder = Recorder()
    await reconciler(recorder, lambda world, now: Plan()).reconcile(KEY)
    assert recorder.steps == ["answer []"]


async def test_nothing_is_decided_on_a_view_older_than_our_own_last_write():
    recorder = Recorder(behind=True)

    def decide(world, now):
        raise AssertionError("not now")

    assert await reconciler(recorder, decide).reconcile(KEY) == SOON
    assert recorder.steps == []


@pytest.mark.parametrize("seen", [None, {**CUSTOM_RESOURCE, "metadata": {"deletionTimestamp": "now"}}])
async def test_a_custom_resource_that_is_gone_or_going_is_forgotten_and_nothing_is_made(seen):
    recorder = Recorder(custom_resource=seen)
    assert await reconciler(recorder).reconcile(KEY) is None
    assert set(recorder.steps) == {"forget"}


async def test_the_decision_sees_the_time_of_the_clock():
    times = []

    def decide(world, now):
        times.append(now)
        return Plan()

    await reconciler(Recorder(), decide).reconcile(KEY)
    assert times == [NOW]


async def test_what_the_api_server_refuses_for_good_is_told_to_the_next_pass_and_the_rest_goes_on():
    refused = ApiRefusal(403, "Forbidden", "exceeded quota")
    recorder = Recorder(failing="apply first", error=refused)
    assert await reconciler(recorder).reconcile(KEY) == SOON
    assert recorder.steps == ORDER
    (told,) = recorder.refusals
    assert (told.kind, told.name, told.code, told.message) == ("ConfigMap", "first", 403, "exceeded quota")
    assert await reconciler(recorder).reconcile(KEY) == 7, "no news, and the plan wants to look again before long"


async def test_a_refusal_that_is_over_is_news_too():
    recorder = Recorder(failing="apply first", error=ApiRefusal(403, "Forbidden", "exceeded quota"))
    await reconciler(recorder).reconcile(KEY)
    recorder.failing = ""
    assert await reconciler(recorder).reconcile(KEY) == SOON
    assert recorder.refusals == ()


@pytest.mark.parametrize("code", [500, 503, 504])
async def test_a_server_that_fails_is_no_refusal(code):
    recorder = Recorder(failing="apply first", error=ApiRefusal(code, "InternalError", "no"))
    with pytest.raises(ApiRefusal):
        await reconciler(recorder).reconcile(KEY)
    assert recorder.steps == ["apply first"]


async def test_a_server_that_goes_on_failing_at_one_object_is_told_to_the_next_pass_and_the_rest_goes_on():
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


async def test_failures_that_are_not_one_after_the_other_are_a_moment_s():
    recorder = Recorder(error=ApiRefusal(500, "InternalError", "no"))
    one = reconciler(recorder)
    for _ in range(PATIENCE):
        recorder.failing = "apply second"
        with pytest.raises(ApiRefusal):
            await one.reconcile(KEY)
        recorder.failing = ""
        await one.reconcile(KEY)
    assert recorder.refusals == ()
