"""decide: facts about one DiffusionTraining and the time go in, a Plan comes out.

Read from the top, it is the life of a run. A spec that cannot be used touches nothing that runs. An ended run changes
no more. Else: count how workers ended, learn what they told, see whether that is the end; if not, find out who trains
together next; say all that in the status, and make children and instructions follow what is stored.
"""

from datetime import datetime

from diffusion_contract.agent_messages import Member, TrainerInstruction
from diffusion_contract.names import RETRY_ANNOTATION
from diffusion_operator.api.training_spec import TrainingCustomResource
from diffusion_operator.observe.training_history import Rendezvous
from diffusion_operator.observe.training_world import TrainingWorld
from diffusion_operator.plan.membership import BROKEN_PATIENCE, complaints, without_members
from diffusion_operator.plan.plan import Event, Plan
from diffusion_operator.plan.training_attempt import (
    NextAttempt,
    next_attempt,
    seconds_until_stop_ends,
)
from diffusion_operator.plan.training_children import superfluous_jobs, wanted_children
from diffusion_operator.plan.training_ended import after_the_end, asks_once_more
from diffusion_operator.plan.training_events import training_events
from diffusion_operator.plan.training_identity import CHANGED, as_begun, describes_another_run, why_unusable
from diffusion_operator.plan.training_image_trial import image_obstacle, is_tried, seconds_until_untried
from diffusion_operator.plan.training_obstacles import CREATION_SECONDS, makes_too_few, seconds_until_slow_workers
from diffusion_operator.plan.training_outcome import outcome
from diffusion_operator.plan.training_phase import Objection, Outlook, verdict
from diffusion_operator.plan.training_progress import learn, throttled
from diffusion_operator.plan.training_rehearsal import REHEARSE_AGAIN_SECONDS, rehearsal, why_not
from diffusion_operator.plan.training_restarts import Restarts, count_restarts
from diffusion_operator.plan.training_silence import seconds_until_standstill, with_silence
from diffusion_operator.plan.training_status import master_port, refused_status, training_status

_TRYING = (
    "before workers leave for those that spec.workers and spec.pools ask for, it is found out whether these can start"
)


def decide_training(world: TrainingWorld, now: datetime) -> Plan:
    """The next steps for one DiffusionTraining; it never raises, and the same arguments give the same plan."""
    training = as_begun(world, world.training) if world.training else None
    if world.history.terminal:
        return _once_more(world, training, now) if training and asks_once_more(world) else after_the_end(world, now)
    if training is None:
        return _untouched(world, now)
    world = with_silence(world, now)
    outlook = _look_ahead(world, training, now)
    found = verdict(outlook)
    status, held_back = throttled(training_status(outlook, found), world.history.raw, now)
    return Plan(
        apply=() if outlook.outcome else wanted_children(world, training, now),
        status=status,
        instructions=instructions(outlook.attempt, outlook.rendezvous, world),
        events=training_events(outlook, found, status),
        delete=superfluous_jobs(world, training),
        rehearse=() if outlook.outcome else rehearsal(world, training),
        requeue_seconds=_requeue(outlook, held_back),
    )


def _once_more(world: TrainingWorld, training: TrainingCustomResource, now: datetime) -> Plan:
    """A failed run that somebody asks for again: another attempt, for which the failure policy counts from nothing.

    What happened is told by the counters of what nobody is blamed for, and by the attempt.
    """
    stored = world.history
    outlook = Outlook(
        world=world,
        training=training,
        attempt=stored.attempt + 1,
        rendezvous=without_members(stored.rendezvous),
        restarts=Restarts(counted=0, disruptions=stored.disruptions, recorded=frozenset(), last_crash=""),
        learned=learn(world),
        outcome=None,
        now=now,
    )
    said = f"attempt {outlook.attempt} begins, because the annotation {RETRY_ANNOTATION} asks once more"
    return Plan(
        status=training_status(outlook, verdict(outlook)),
        events=(Event("AskedOnceMore", said),),
    )


def _untouched(world: TrainingWorld, now: datetime) -> Plan:
    """A spec that cannot be used: said in the conditions, while whatever runs goes on as it was."""
    message = why_unusable(world)
    status = refused_status(world, message, now)
    news = world.history.raw.get("message") != status["message"]
    return Plan(
        status=status,
        instructions=instructions(world.history.attempt, world.history.rendezvous, world),
        events=(Event("InvalidSpec", message, "Warning"),) if news else (),
    )


def _look_ahead(world: TrainingWorld, training: TrainingCustomResource, now: datetime) -> Outlook:
    restarts, learned = count_restarts(world), learn(world)
    end = outcome(world, training, learned, restarts)
    stored = world.history
    following = NextAttempt(stored.attempt, without_members(stored.rendezvous), stored.no_progress)
    if end is None:
        following = next_attempt(world, training, learned, restarts, now)
    return Outlook(
        world=world,
        training=training,
        attempt=following.attempt,
        rendezvous=following.rendezvous,
        restarts=restarts,
        learned=learned,
        outcome=end,
        now=now,
        no_progress=following.no_progress,
        next_attempt_time=following.start,
        objection=_objection(world, training, now),
    )


def _objection(world: TrainingWorld, training: TrainingCustomResource, now: datetime) -> Objection | None:
    """Why an edit of the spec is not carried out; `training` is the run that goes on."""
    if world.training is not None and describes_another_run(world, world.training):
        return Objection("InvalidSpec", str(CHANGED))
    if sentence := why_not(world, training):
        said = f"the API server refuses the workers that spec.workers and spec.pools ask for: {sentence}; correct them"
        return Objection("WorkersRefused", said)
    if obstacle := image_obstacle(world, training, now):
        return Objection(obstacle.reason, obstacle.message)
    if is_tried(world, training, now):
        return Objection("TryingWorkers", _TRYING, "Reconciling")
    return None


def instructions(attempt: int, rendezvous: Rendezvous, world: TrainingWorld) -> dict[str, TrainerInstruction]:
    """What each living agent is told, made only from what is being stored in this pass.

    A pod of an earlier attempt is told nothing, and before the first generation of an attempt there is nothing to tell.
    """
    if not rendezvous.members or attempt != world.history.attempt:
        return {}
    told = TrainerInstruction(
        attempt=attempt,
        generation=rendezvous.generation,
        members=tuple(
            Member(pod=m.pod, uid=m.uid, address=m.address, processes=m.processes) for m in rendezvous.members
        ),
        master_address=rendezvous.members[0].address,
        master_port=master_port(rendezvous.generation),
        resume_step=rendezvous.resume_step,
        leaving=rendezvous.leaving,
        stop=bool(rendezvous.stop),
    )
    return {worker.pod.uid: told for worker in world.workers if not worker.pod.terminal}


def _requeue(outlook: Outlook, held_back: float) -> float | None:
    """The earliest moment at which time alone would change the answer."""
    now = outlook.now
    waits = [held_back or None, outlook.waiting_seconds or None, seconds_until_stop_ends(outlook.rendezvous, now)]
    if complaints(outlook.rendezvous, outlook.world.workers):
        waits.append(BROKEN_PATIENCE.total_seconds())
    if outlook.attempt == outlook.world.history.attempt and any(map(makes_too_few, outlook.world.jobs)):
        waits.append(CREATION_SECONDS)
    waits.append(seconds_until_slow_workers(outlook.world, now))
    waits.append(seconds_until_standstill(outlook.world, now))
    waits.append(seconds_until_untried(outlook.world, outlook.training, now))
    if why_not(outlook.world, outlook.training):
        waits.append(REHEARSE_AGAIN_SECONDS)
    return min((wait for wait in waits if wait is not None), default=None)
