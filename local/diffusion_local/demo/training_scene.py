"""The first half of the story: a run on two workers loses its spot node in the middle, and gets another one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.markup import escape

from diffusion_local.demo.cluster_commands import ClusterCommands, CommandFailed
from diffusion_local.demo.narration import Narration, StepBar

Status = dict[str, Any]
STILL_SECONDS = 300.0
"""A run in which nothing moves for so long has failed: a first start on a busy machine takes a minute or two."""
NOTICE_SECONDS = 15
PREEMPTED_AT = 0.3
"""The share of the steps after which the cloud takes the spot node back."""
CHAPTERS = {
    "two": "training on 2 workers",
    "preempted": "the loss of the spot node",
    "alone": "going on with 1 worker",
    "again": "2 workers again",
}
"""What must have been told by the end."""


def conditions_of(status: Status) -> dict[str, dict[str, str]]:
    """Return the conditions of a status by their type."""
    return {condition["type"]: condition for condition in status.get("conditions", [])}


@dataclass
class TrainingScene:
    """Watches one DiffusionTraining to its end and takes its spot node away on the way.

    `spot_node` names the node of the spot worker, `preempt` takes a node away and `add_spot_node` brings another;
    everything that is told comes from the run's status.
    """

    commands: ClusterCommands
    narration: Narration
    name: str
    namespace: str
    spot_node: Callable[[], str | None]
    preempt: Callable[[str], None]
    add_spot_node: Callable[[], object]
    _told: set[str] = field(default_factory=set)
    _first_loss: float | None = None
    _life: tuple[object, ...] = ()

    def play(self) -> Status:
        """Follow the run until it has succeeded; returns its last status.

        Raises CommandFailed when it fails, when nothing moves any more, or when a chapter of the story did not happen.
        """
        with self.narration.bar(1) as bar:
            status: Status = self.commands.wait_for(
                f"{self.name} has succeeded",
                lambda: self._look(bar),
                STILL_SECONDS,
                every=0.7,
                sign_of_life=lambda: self._life,
            )
        if missing := [chapter for key, chapter in CHAPTERS.items() if key not in self._told]:
            raise CommandFailed(
                f"{self.name} has succeeded, but this was not seen on the way: {', '.join(missing)}; "
                "look at its pods and nodes, and run `make demo` again"
            )
        published = status["published"]
        loss = status["progress"].get("loss")
        fell = f"loss {self._first_loss:.2f} -> {loss:.2f}" if self._first_loss and loss else ""
        self.narration.tell(f"Training is done: step {status['progress']['step']}, {fell}")
        self.narration.tell(f"Model version published: [green]{escape(published['reference'])}[/]")
        return status

    def _look(self, bar: StepBar) -> Status | None:
        status: Status = self.commands.get("diffusiontraining", self.name, self.namespace).get("status", {})
        conditions = conditions_of(status)
        if conditions.get("Failed", {}).get("status") == "True":
            raise CommandFailed(f"{self.name} failed: {conditions['Failed']['message']}")
        step = status.get("progress", {}).get("step")
        self._life = (step, *(status.get(field) for field in ("phase", "worldSize", "generation", "attempt")))
        self._show_progress(bar, status)
        self._tell_sizes(status)
        self._take_the_spot_node_away(status)
        return status if status.get("phase") == "Succeeded" else None

    def _show_progress(self, bar: StepBar, status: Status) -> None:
        progress = status.get("progress", {})
        if "step" not in progress:
            return
        loss, speed = progress.get("loss"), progress.get("samplesPerSecond")
        self._first_loss = self._first_loss or loss
        words = f"loss {loss:.3f}  {speed:.0f} samples/s  " if loss is not None and speed else ""
        size = status.get("worldSize", 0)
        bar.show(progress["step"], progress["targetSteps"], f"{words}{size} worker{'s' * (size != 1)}")

    def _tell_sizes(self, status: Status) -> None:
        size = status.get("worldSize", 0)
        if size == 2:
            self._once("two", "Training on 2 workers: one on demand, one on a spot node.")
        if "preempted" not in self._told:
            return
        if size == 2 and "alone" in self._told:
            self._once("again", "A new spot node has arrived: 2 workers again, state sent from the one that went on.")
        elif status.get("preemptions"):
            self._tell_loss(status)

    def _tell_loss(self, status: Status) -> None:
        newest = status["preemptions"][0]
        step = (status.get("checkpoint", {}).get("lastCommitted") or {}).get("step")
        if newest.get("recoverySeconds") is None or step is None or "alone" in self._told:
            return
        self._once(
            "alone",
            f"Checkpoint at step {step}, going on with 1 worker after {newest['recoverySeconds']:.1f} s, "
            f"[green]{newest['lostSteps']} steps lost[/].",
        )
        self.add_spot_node()
        self.narration.tell("A new spot node was ordered.")

    def _take_the_spot_node_away(self, status: Status) -> None:
        progress = status.get("progress", {})
        due = PREEMPTED_AT * progress.get("targetSteps", float("inf"))
        if "preempted" in self._told or status.get("worldSize") != 2 or progress.get("step", 0) < due:
            return
        if node := self.spot_node():
            self._once("preempted", f"The cloud takes the spot node back, with {NOTICE_SECONDS} s notice.")
            self.preempt(node)

    def _once(self, key: str, sentence: str) -> None:
        if key not in self._told:
            self._told.add(key)
            self.narration.tell(sentence)
