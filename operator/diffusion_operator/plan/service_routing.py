"""Where requests go: what routers are told, what they say of it, and which revisions may therefore be deleted.

The clock proves nothing about routers: one of them may not have heard, or not have found the new engines yet. So

    promotion stored -> routers are told -> each says that it sends everything to the new revision and has found an
    engine of it -> that is stored (status.router.revision, .since) -> DRAIN_SECONDS -> the old revision is deleted

and every arrow is an observation. A ready router that is silent is unknown: it holds the record up, and moves nothing.
One that is not ready gets no requests, on a dead machine for instance: nobody waits for its word.
"""

from datetime import datetime

from diffusion_contract.agent_messages import RouterInstruction
from diffusion_contract.model_reference import parse_model_reference
from diffusion_operator.children.metadata import Owner
from diffusion_operator.children.serving_config_map import route_to
from diffusion_operator.observe.service_history import RecordedRevision, RecordedRouting
from diffusion_operator.observe.service_routers import RouterFacts
from diffusion_operator.observe.service_world import RevisionObject, ServiceWorld
from diffusion_operator.plan.revision import Rollout
from diffusion_operator.plan.timestamps import from_timestamp, seconds_left, to_timestamp

DRAIN_SECONDS = 10
"""How long an old revision stays after all routers have left it: images that are being drawn are finished."""


def instruction(owner: Owner, stable: RecordedRevision | None) -> RouterInstruction:
    """Everything to the stable revision, and nothing anywhere while there is none."""
    if stable is None:
        return RouterInstruction()
    route = route_to(owner, stable.revision, parse_model_reference(stable.model).digest)
    return RouterInstruction(routes=(route,), since=stable.since)


def routing_record(world: ServiceWorld, rollout: Rollout, replicas: int, now: datetime) -> RecordedRouting | None:
    """The proof that all requests go to the stable revision: once made it stays, until another one is promoted."""
    stable, stored = rollout.stable, world.history.routing
    if stable is None or rollout.promoted:
        return None
    if stored is not None and stored.revision == stable.revision:
        return stored
    if not any(router.ready for router in world.routers) or stragglers(world, stable.revision, replicas):
        return None
    return RecordedRouting(stable.revision, to_timestamp(now))


def stragglers(world: ServiceWorld, revision: str, replicas: int) -> tuple[RouterFacts, ...]:
    """Ready routers that are not known to send everything to `revision`, or have found no engine of it.

    With 0 `replicas` there is no engine to be found.
    """

    def has_moved(router: RouterFacts) -> bool:
        found = replicas == 0 or router.ready_engines.get(revision, 0) > 0
        return router.sends_all_to(revision) and found

    return tuple(router for router in world.routers if router.ready and not has_moved(router))


def seekers(world: ServiceWorld) -> tuple[RouterFacts, ...]:
    """Ready routers that say now that they find no engine where they send requests, and so answer with an error.

    After 0 replicas, or when all engines were lost, a new one is ready a second or two before routers have found it.
    """

    def finds_none(router: RouterFacts) -> bool:
        routed = router.routed if router.connected else None
        return routed is not None and not any(router.ready_engines.get(revision, 0) for revision in routed)

    return tuple(router for router in world.routers if router.ready and finds_none(router))


def retired(world: ServiceWorld, rollout: Rollout, now: datetime) -> tuple[RevisionObject, ...]:
    """Objects that may go now: of revisions that are not wanted, and that no router sends anything to."""
    if draining_seconds(world, rollout, now) > 0 or not _proven(world, rollout):
        return ()
    in_use = {revision for router in world.routers if router.connected for revision in router.routed or ()}
    return tuple(found for found in leftovers(world, rollout) if found.revision not in in_use)


def leftovers(world: ServiceWorld, rollout: Rollout) -> tuple[RevisionObject, ...]:
    """Objects of revisions that are neither stable nor candidate; none where the spec cannot be read."""
    if world.spec is None:
        return ()
    return tuple(found for found in world.objects if found.revision not in rollout.wanted)


def draining_seconds(world: ServiceWorld, rollout: Rollout, now: datetime) -> float:
    """Seconds until what routers have left may go; 0 is now, or never while it is not known to be left."""
    record = world.history.routing
    since = from_timestamp(record.since) if record and _proven(world, rollout) else None
    return seconds_left(since, DRAIN_SECONDS, now)


def _proven(world: ServiceWorld, rollout: Rollout) -> bool:
    """Whether it stands in the status that routers are where they should be.

    Without a stable revision nothing is recorded, since nothing is routed. Then what was overtaken goes once all
    routers have said where they send: after a lost status that is the revision that serves. Before routers have ever
    been up there is nothing to prove, and no revision is kept for them.
    """
    if _never_up(world):
        return True
    record, stable = world.history.routing, rollout.stable
    if stable is not None:
        return record is not None and record.revision == stable.revision
    ready = [router for router in world.routers if router.ready]
    return bool(ready) and all(router.connected and router.routed is not None for router in ready)


def _never_up(world: ServiceWorld) -> bool:
    """Whether no router is ready, and they have not been up once either, as their Deployment says."""
    return world.router is not None and not world.router.was_whole and not any(one.ready for one in world.routers)
