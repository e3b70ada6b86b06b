"""Trainer agents as the operator sees them: what they report, how they follow instructions, how they end."""

from dataclasses import dataclass, field

from diffusion_contract.agent_messages import (
    CheckpointReference,
    PublishedVersion,
    Recovery,
    TerminationMessage,
    TrainerInstruction,
    TrainerReport,
    TrainerState,
)

DIGEST = "sha256:" + "0" * 64


@dataclass
class Volume:
    """The checkpoint claim: what is committed outlives every pod. `writers` are the attempts that committed."""

    committed: CheckpointReference | None = None
    published: PublishedVersion | None = None
    writers: list[int] = field(default_factory=list)

    def commit(self, step: int, attempt: int, moment: str) -> None:
        """Commit a step unless a later attempt has committed before (fencing) or it stands there already."""
        if self.writers and attempt < self.writers[-1]:
            return
        if self.committed is None or step > self.committed.step:
            self.committed = CheckpointReference(step=step, digest=DIGEST, time=moment)
            self.writers.append(attempt)


@dataclass
class Trainer:
    """One worker pod's agent. `ended` is its exit code once it has left."""

    uid: str
    attempt: int
    target: int
    publishes: bool
    state: TrainerState = "Starting"
    generation: int = 0
    broken: int | None = None
    step: int | None = None
    told: TrainerInstruction | None = None
    leaving: bool = False
    ended: int | None = None
    recovery: Recovery | None = None

    def report(self, volume: Volume) -> TrainerReport:
        """What it says now."""
        return TrainerReport(
            attempt=self.attempt,
            state=self.state,
            generation=self.generation,
            broken=self.broken,
            step=self.step,
            loss=None if self.step is None else 1 / (1 + self.step),
            samples_per_second=100.0,
            committed=volume.committed if self.generation else None,
            published=volume.published if self.generation else None,
            recovery=self.recovery,
            leaving=self.leaving,
        )

    def last_words(self, volume: Volume) -> str:
        """Its termination message."""
        words = TerminationMessage(
            reason="TargetReached" if self.ended == 0 else "Leaving",
            step=self.step,
            committed=volume.committed,
            published=volume.published,
        )
        return words.model_dump_json(by_alias=True, exclude_none=True)


def work(trainers: dict[str, Trainer], volume: Volume, moment: str) -> None:
    """Let every living agent do one thing: come up, follow its newest instruction, take a step, or leave."""
    alive = {uid: one for uid, one in trainers.items() if one.ended is None}
    for trainer in alive.values():
        if trainer.state == "Starting":
            trainer.state = "Ready"
        _step_out(trainer, volume, moment)
        _leave_alone(trainer, volume, moment)
    for group in _groups(alive):
        _work_together(group, volume, moment)


def _step_out(trainer: Trainer, volume: Volume, moment: str) -> None:
    """A newer generation without it: it saves and goes if it is to leave, else it waits as a spare."""
    told = trainer.told
    if told is None or told.generation <= trainer.generation or not trainer.generation:
        return
    if all(member.uid != trainer.uid for member in told.members):
        trainer.generation, trainer.state = 0, "Ready"


def _leave_alone(trainer: Trainer, volume: Volume, moment: str) -> None:
    """Outside of any generation: SIGTERM, or an instruction to go, ends it; state that nobody saved is saved."""
    told = trainer.told
    ordered = told is not None and (told.stop or trainer.uid in told.leaving)
    if trainer.generation or not (ordered or trainer.leaving):
        return
    if told is not None and told.stop and any(member.uid == trainer.uid for member in told.members):
        return  # It regroups with the others first.
    if trainer.step is not None:
        volume.commit(trainer.step, trainer.attempt, moment)
    trainer.ended = 75


def _groups(alive: dict[str, Trainer]) -> list[list[Trainer]]:
    """Agents by the newest generation that any of them was told; a group works only when all of it is there."""
    told = [trainer.told for trainer in alive.values() if trainer.told is not None]
    newest: dict[int, TrainerInstruction] = {}
    for one in told:
        if one.attempt not in newest or one.generation >= newest[one.attempt].generation:
            newest[one.attempt] = one
    groups = []
    for attempt, instruction in newest.items():
        members = [alive.get(member.uid) for member in instruction.members]
        present = [member for member in members if member is not None and member.attempt == attempt]
        knows = [m for m in present if m.told is not None and m.told.generation == instruction.generation]
        if len(knows) == len(instruction.members):
            _join(present, instruction)
            groups.append(present)
        else:
            _notice_the_dead(alive, attempt)
    return groups


def _notice_the_dead(alive: dict[str, Trainer], attempt: int) -> None:
    for trainer in alive.values():
        told = trainer.told
        if trainer.attempt == attempt and trainer.generation and told is not None:
            gone = [m.uid for m in told.members if m.uid not in alive]
            if gone and told.generation == trainer.generation:
                trainer.broken, trainer.state, trainer.generation = trainer.generation, "Regrouping", 0


def _join(members: list[Trainer], instruction: TrainerInstruction) -> None:
    """The most advanced state goes to everyone; without any, the checkpoint that the instruction names."""
    if all(member.generation == instruction.generation for member in members):
        return
    held = [member.step for member in members if member.step is not None]
    step = max(held) if held else (instruction.resume_step or 0)
    for member in members:
        regrouped = member.step is not None
        member.state, member.generation, member.broken, member.step = "Training", instruction.generation, None, step
        if regrouped:
            member.recovery = Recovery(generation=instruction.generation, lost_steps=0, seconds=0.25)


def _work_together(members: list[Trainer], volume: Volume, moment: str) -> None:
    first = members[0]
    assert first.step is not None
    assert first.told is not None
    if first.told.stop:
        volume.commit(first.step, first.attempt, moment)
        for member in members:
            member.state, member.ended = "Leaving", 75
        return
    if first.step < first.target:
        for member in members:
            member.step = first.step + 1 if member is first else member.step
        for member in members:
            member.step = first.step
    if first.step % 5 == 0 or first.step >= first.target:
        volume.commit(first.step, first.attempt, moment)
    if first.step >= first.target:
        _finish(members, volume)


def _finish(members: list[Trainer], volume: Volume) -> None:
    first = members[0]
    is_published = volume.published is not None and volume.published.step >= first.target
    if first.publishes and not is_published and first.state != "Publishing":
        first.state = "Publishing"
        return
    if first.publishes and not is_published:
        volume.published = PublishedVersion(reference=f"pvc://m/x@{DIGEST}", digest=DIGEST, step=first.target)
    for member in members:
        member.state, member.ended = "Finished", 0


def obey(trainer: Trainer, instruction: TrainerInstruction | None) -> None:
    """Hear an instruction; an older generation or another attempt is not listened to."""
    if instruction is None or instruction.attempt != trainer.attempt:
        return
    if trainer.told is None or instruction.generation >= trainer.told.generation:
        trainer.told = instruction
