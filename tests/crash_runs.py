"""One run of a scenario: with a fault at one write, or without any for reference."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash_scenarios import Scenario
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.resources import Resource
from end_state import differences, end_state
from faulty_transport import FaultPlan
from operator_harness import Bench, Witness
from scripted_pods import Stage

_NAMESPACE = Resource("v1", "Namespace", "namespaces", namespaced=False)
_ACCOUNT = Resource("v1", "ServiceAccount", "serviceaccounts")
_RUN_SECONDS = 240.0
_STILL_SECONDS = 0.4


@dataclass
class Outcome:
    """What a run came to."""

    state: list[Any] = field(default_factory=list)
    created: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    fault_was_met: bool = False
    reached_the_end: bool = False

    def mismatches(self, reference: "Outcome") -> list[str]:
        """Where this run differs from the reference."""
        return (
            differences(reference.state, self.state, "end")
            + differences(reference.created, self.created, "created")
            + differences(reference.deleted, self.deleted, "deleted")
        )


@dataclass
class Run:
    """A scenario in a namespace of its own."""

    scenario: Scenario
    kubeconfig: Path
    client: ApiClient
    witness: Witness
    namespace: str
    compare: Callable[[Outcome, Outcome], list[str]] = Outcome.mismatches

    async def play(self, plan: FaultPlan | None = None, reference: Outcome | None = None) -> Outcome:
        """Play it to the end. With a reference, a moment is given to reach the same end before they are compared."""
        await self._begin()
        stage = Stage(self.client, self.witness.store, self.namespace, self.scenario.script)
        playing = asyncio.create_task(stage.play())
        outcome = Outcome()
        bench = Bench(self.kubeconfig, self.scenario.kinds, self.namespace)
        try:
            async with asyncio.timeout(_RUN_SECONDS):
                async with bench.operator(plan) as (engine, transport):
                    stage.engine, outcome.writes = engine, transport.writes
                    end = asyncio.create_task(self._until_the_end(engine, playing, reference))
                    crash = asyncio.create_task(transport.crashed.wait())
                    await asyncio.wait([end, crash], return_when=asyncio.FIRST_COMPLETED)
                    outcome.fault_was_met = plan is not None and len(transport.writes) >= plan.write
                    if not transport.crashed.is_set():
                        crash.cancel()
                        await end
                        outcome.reached_the_end = True
                        return self._seen(outcome)
                    end.cancel()
                stage.engine = None
                async with bench.operator() as (engine, _):
                    stage.engine = engine
                    await self._until_the_end(engine, playing, reference)
                    outcome.reached_the_end = True
                    return self._seen(outcome)
        except TimeoutError:
            return self._seen(outcome)
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
            await self.client.call("DELETE", _NAMESPACE.path(name=self.namespace))

    async def _begin(self) -> None:
        metadata = {"name": self.namespace}
        await self.client.create(_NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        await self._account()
        for resource, item in self.scenario.objects:
            placed = {**item, "metadata": {**item["metadata"], "namespace": self.namespace}}
            await self.client.create(resource, placed)
        self._changed = self.scenario.change is None

    async def _account(self) -> None:
        """Pods can be made only when the namespace has its ServiceAccount."""
        for _ in range(200):
            if await self.client.get(_ACCOUNT, self.namespace, "default") is not None:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{self.namespace} got no ServiceAccount")

    async def _until_the_end(self, engine: Any, playing: asyncio.Task[None], reference: Outcome | None) -> None:
        still_since, last = time.monotonic(), -1
        while True:
            if playing.done():
                playing.result()
            objects = self._objects()
            if not self._changed and self.scenario.half_way is not None and self.scenario.half_way(objects):
                self._changed = True
                assert self.scenario.change is not None
                # The operator's crash ends this task, and must not take the user's edit along.
                self._change = asyncio.ensure_future(self.scenario.change(self.client, self.namespace))
                await asyncio.shield(self._change)
            if self._moved(objects) != last or not engine.queue.is_quiet or not self._is_over(objects):
                still_since, last = time.monotonic(), self._moved(objects)
            elif time.monotonic() - still_since > _STILL_SECONDS and self._is_like(reference):
                return
            await asyncio.sleep(0.05)

    def _is_like(self, reference: Outcome | None) -> bool:
        return reference is None or not self.compare(self._seen(Outcome()), reference)

    def _is_over(self, objects: Sequence[Any]) -> bool:
        return self._changed and self.scenario.done(objects)

    def _objects(self) -> Sequence[Any]:
        return self.witness.objects(self.namespace)

    def _moved(self, objects: Sequence[Any]) -> int:
        return hash(tuple(item["metadata"]["resourceVersion"] for item in objects))

    def _seen(self, outcome: Outcome) -> Outcome:
        outcome.state = end_state(self._objects(), self.namespace)
        outcome.created, outcome.deleted = self.witness.counts(self.namespace)
        return outcome
