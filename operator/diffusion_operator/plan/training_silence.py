"""Members that an operator which has just started never hears: dead since before, or on their way to it."""

from dataclasses import replace
from datetime import datetime, timedelta

from diffusion_operator.observe.training_world import TrainingWorld

UNHEARD_PATIENCE = timedelta(seconds=35)
"""An agent asks again within 30 s of a lost answer, whoever leads now."""


def with_silence(world: TrainingWorld, now: datetime) -> TrainingWorld:
    """`world`, where a member that was not heard for so long is as silent as one whose connection broke.

    That alone changes nothing: it takes the word of a peer whose collectives failed to leave it behind.
    """
    since = world.operator.listening_since
    if since is None or now - since < UNHEARD_PATIENCE:
        return world
    members = world.history.rendezvous.uids
    workers = tuple(
        replace(worker, connected=False) if worker.connected is None and worker.pod.uid in members else worker
        for worker in world.workers
    )
    return replace(world, workers=workers)
