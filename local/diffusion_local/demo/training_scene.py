"""The first half of the story: a run on two workers loses its spot node in the middle, and gets another one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from diffusion_local.demo.cluster_commands import ClusterCommands, CommandFailed
from diffusion_local.demo.narration import Narration, StepBar

Status = dict[str, Any]


def conditions_of(status: Status) -> dict[str, dict[str, str]]:
    """Return the conditions of a status by their type."""
    return {condition["type"]: condition for condition in status.get("conditions", [])}


@dataclass
class TrainingScene:
    """Watches one DiffusionTraining to its end and takes its spot node away on the way.

    `preempt` and `add_spot_node` act on the cluster; everything that is told comes from the run's status.
    """

    commands: ClusterCommands
    narration: Narration
    name: str
    namespace: str
    preempt: Callable[[], None]
    add_spot_node: Callable[[], None]
    preempt_at: float = 0.3
    _told: set[str] = field(default_factory=set)
    _first_loss: float | None = None

    def play(self, seconds: float) -> Status:
        """Follow the run until it has succeeded; returns its last status, raises CommandFailed when it fails."""
        with self.narration.bar(1) as bar:
            status: Status = self.commands.wait_for(
                f"{self.name} has succeeded", lambda: self._look(bar), seconds, every=0.7
            )
        published = status["published"]
        loss = status["progress"].get("loss")
        fell = f"loss {self._first_loss:.2f} -> {loss:.2f}" if self._first_loss and loss else ""
        self.narration.tell(f"Training is done: step {status['progress']['step']}, {fell}")
        self.narration.tell(f"Model version published: [green]{published['reference']}[/]")
        return status

    def _look(self, bar: StepBar) -> Status | None:
        status: Status = self.commands.get("diffusiontraining", self.name, self.namespace).get("status", {})
        conditions = conditions_of(status)
        if conditions.get("Failed", {}).get("status") == "True":
            raise CommandFailed(f"{self.name} failed: {conditions['Failed']['message']}")
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
        bar.show(progress["step"], progress["targetSteps"], f"{words}{status.get('worldSize', 0)} workers")

    def _tell_sizes(self, status: Status) -> None:
        size = status.get("worldSize", 0)
        if size == 2:
            self._once("two", "Training on 2 workers: one on demand, one on a spot node.")
        if "preempted" not in self._told:
            return
        if size == 1 and status.get("preemptions"):
            self._tell_loss(status)
        if size == 2 and "alone" in self._told:
            self._once("again", "A new spot node has arrived: 2 workers again, state sent from the one that went on.")

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
        due = self.preempt_at * progress.get("targetSteps", float("inf"))
        if status.get("worldSize") == 2 and progress.get("step", 0) >= due and "preempted" not in self._told:
            self._once("preempted", "The cloud takes the spot node back, with 15 s notice.")
            self.preempt()

    def _once(self, key: str, sentence: str) -> None:
        if key not in self._told:
            self._told.add(key)
            self.narration.tell(sentence)
