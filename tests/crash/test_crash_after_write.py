"""Crash after every write: whatever happens at one write, a new operator without memory ends up in the same place.

A reference run counts the writes. For each write and each fault (faulty_transport.Fault) the operator loses its memory
there, and a new one takes over. The end state, with UIDs and times masked, and how often each object was created and
deleted must be those of the reference. `make test` plays a sample, CRASH_FULL=1 (`make crash`) every single one.
"""

import asyncio
import itertools
import os
import uuid
from collections.abc import Sequence

import pytest

import diffusion_operator.plan.service_routing
from crash_runs import Outcome, Run
from crash_scenarios import EDITED, ROLLED_OUT, TINY, TRAINED, Scenario
from custom_resource_tables import install_crds
from diffusion_local.cluster import Cluster
from faulty_transport import Fault, FaultPlan
from operator_harness import Witness, client_for

FULL = bool(os.environ.get("CRASH_FULL"))
SAMPLE = int(os.environ.get("CRASH_SAMPLE", "10"))
AT_ONCE = 3


def sampled(plans: Sequence[FaultPlan]) -> Sequence[FaultPlan]:
    """All, or a spread-out sample in which every kind of fault occurs."""
    if FULL or len(plans) <= SAMPLE:
        return plans
    stride = len(plans) // SAMPLE
    stride -= 1 - stride % 2 if stride > 1 else 0  # Odd, so that the six faults take turns.
    return plans[::stride][:SAMPLE]


async def play_all(scenario: Scenario, cluster: Cluster) -> tuple[Outcome, dict[FaultPlan, Outcome]]:
    """The reference, and one run for each plan."""
    client = client_for(cluster.kubeconfig)
    slots = asyncio.Semaphore(AT_ONCE)
    try:
        async with Witness(client_for(cluster.kubeconfig)).watching() as witness:

            async def play(plan: FaultPlan | None, reference: Outcome | None) -> Outcome:
                async with slots:
                    namespace = f"crash-{uuid.uuid4().hex[:10]}"
                    run = Run(scenario, cluster.kubeconfig, client, witness, namespace)
                    return await run.play(plan, reference)

            reference = await play(None, None)
            assert reference.reached_the_end, "the reference run did not come to its end"
            numbers = range(1, len(reference.writes) + 1)
            plans = sampled([FaultPlan(number, fault) for number, fault in itertools.product(numbers, Fault)])
            outcomes = await asyncio.gather(*(play(plan, reference) for plan in plans))
            return reference, dict(zip(plans, outcomes, strict=True))
    finally:
        await client.transport.close()


@pytest.mark.timeout(7200 if FULL else 1800)
@pytest.mark.parametrize("scenario", [TINY, TRAINED, EDITED, ROLLED_OUT], ids=lambda scenario: scenario.name)
async def test_the_end_is_the_same_wherever_the_operator_dies(
    scenario: Scenario, control_plane: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_crds(control_plane)
    monkeypatch.setattr(diffusion_operator.plan.service_routing, "DRAIN_SECONDS", 1)
    reference, outcomes = await play_all(scenario, control_plane)
    met = sum(outcome.fault_was_met for outcome in outcomes.values())
    wrong = {plan: lines for plan, outcome in outcomes.items() if (lines := outcome.mismatches(reference))}
    with capsys.disabled():
        print(
            f"\n{scenario.name}: {len(reference.writes)} writes, {sum(reference.created.values())} creations and "
            f"{sum(reference.deleted.values())} deletions in the reference; {len(outcomes)} crash runs of which {met} "
            f"met their fault; {len(wrong)} mismatches"
        )
    said = "\n".join(f"{plan.fault} at write {plan.write}:\n  " + "\n  ".join(lines) for plan, lines in wrong.items())
    assert not wrong, said
    assert met >= len(outcomes) * 0.8, "too few faults were met for this to mean anything"


def test_a_sample_has_every_kind_of_fault() -> None:
    plans = [FaultPlan(number, fault) for number, fault in itertools.product(range(1, 40), Fault)]
    assert FULL or {plan.fault for plan in sampled(plans)} == set(Fault)
