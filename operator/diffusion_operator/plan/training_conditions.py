"""The conditions of a DiffusionTraining besides the kstatus three."""

from collections.abc import Iterator

from diffusion_operator.children.job import GRACE_SECONDS
from diffusion_operator.observe.raw_values import condition_of, text_at
from diffusion_operator.plan.conditions import Condition
from diffusion_operator.plan.training_obstacles import obstacles
from diffusion_operator.plan.training_phase import Outlook, Verdict

MARGIN_SECONDS = 3
"""Of a worker's grace this much goes by until all have agreed on a step, and after the commit: 12 of 15 s are left."""


def training_conditions(outlook: Outlook, verdict: Verdict) -> Iterator[Condition]:
    """Scheduled, CheckpointSaved, CheckpointVerified, and Complete or Failed at the end.

    GraceSufficient where workers are to save when they are taken away, Published where that was asked for.
    """
    yield _scheduled(outlook, verdict)
    yield _saved(outlook)
    yield _verified(outlook)
    if outlook.training.spec.checkpoint.on_preemption:
        yield _grace(outlook)
    if outlook.training.spec.publish is not None:
        yield _published(outlook)
    if verdict.phase == "Succeeded":
        yield Condition("Complete", "True", verdict.reason, verdict.message)
    if verdict.phase == "Failed":
        yield Condition("Failed", "True", verdict.reason, verdict.message)


def _scheduled(outlook: Outlook, verdict: Verdict) -> Condition:
    if verdict.phase in ("Succeeded", "Failed", "Suspended"):
        return Condition("Scheduled", "False", verdict.phase, "no workers are wanted any more")
    found = obstacles(outlook.world, outlook.now)
    if found:
        return Condition("Scheduled", "False", found[0].reason, found[0].message)
    wanted = outlook.training.spec.workers.max
    placed = sum(bool(worker.pod.node) and not worker.pod.terminal for worker in outlook.world.workers)
    if placed >= wanted:
        return Condition("Scheduled", "True", "Scheduled", f"all {wanted} workers have a node")
    return Condition("Scheduled", "False", "Waiting", f"{placed} of {wanted} workers have a node")


def _saved(outlook: Outlook) -> Condition:
    """A save that failed is said at once, and not forgotten while nobody reports."""
    learned = outlook.learned
    if learned.save_failure is not None:
        return Condition("CheckpointSaved", "False", learned.save_failure.reason, learned.save_failure.message)
    stored = condition_of({"status": outlook.world.history.raw}, "CheckpointSaved")
    if stored.get("status") == "False" and not learned.heard:
        return Condition("CheckpointSaved", "False", text_at(stored, "reason"), text_at(stored, "message"))
    if learned.committed is None:
        return Condition("CheckpointSaved", "Unknown", "NoneYet", "no checkpoint has been committed yet")
    return Condition("CheckpointSaved", "True", "Committed", "saves are committed")


def _verified(outlook: Outlook) -> Condition:
    learned = outlook.learned
    newest = learned.verified.step if learned.verified else -1
    if newer := [one for one in learned.skipped if one.step >= newest]:
        said = f"the checkpoint of step {newer[-1].step} was passed over: {newer[-1].reason}"
        return Condition("CheckpointVerified", "False", "PassedOver", said)
    if learned.verified is None:
        return Condition("CheckpointVerified", "Unknown", "NoneYet", "no checkpoint has been read back yet")
    return Condition("CheckpointVerified", "True", "DigestsHold", "the newest checkpoint that was read back is whole")


def _grace(outlook: Outlook) -> Condition:
    """Whether a save fits between a worker's notice and its end. Spot workers have the least time."""
    seconds = outlook.learned.save_seconds
    if seconds is None:
        return Condition("GraceSufficient", "Unknown", "NoneYet", "no save has been timed yet")
    pools = [pool for pool in outlook.training.spec.effective_pools if pool.size > 0]
    window = min((GRACE_SECONDS[pool.capacity] for pool in pools), default=GRACE_SECONDS["OnDemand"]) - MARGIN_SECONDS
    if seconds <= window:
        return Condition("GraceSufficient", "True", "SavesFit", f"a save takes {seconds:g} s of the {window} s for it")
    return Condition(
        "GraceSufficient",
        "False",
        "SavesTooSlow",
        f"a save takes {seconds:g} s, and a worker that is told to end has {window} s for it: use a faster volume in "
        "checkpoint.storage, or a shorter checkpoint.interval so that less is lost",
    )


def _published(outlook: Outlook) -> Condition:
    published, target = outlook.learned.published, outlook.training.spec.training.target_steps
    if published is None or published.step < target:
        return Condition("Published", "False", "NotYet", "the model version is written after the target step")
    return Condition("Published", "True", "Published", f"step {published.step} is {published.reference}")
