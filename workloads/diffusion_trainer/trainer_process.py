"""The life of one trainer process: wait for a generation, meet, agree on the state, train, regroup, and end.

Ready -> (generation g announced) -> meet -> agree on the state -> train -> target: save, publish, exit 0
^                                                                  |
+---- a newer generation, at a step boundary, state in memory <----+----> told to leave: save, exit 75
+---- a peer has gone: state of the last complete step kept, generation reported broken
"""

import functools
import logging
import socket
import threading
import time
import traceback

import torch

from diffusion_contract.agent_messages import TrainerInstruction
from diffusion_contract.exit_codes import ExitCode
from diffusion_contract.run_config import RunConfig
from diffusion_core.accelerator import name_device
from diffusion_core.denoisers import ConfigRefused
from diffusion_trainer.accelerator import ForkPoisoned, choose_device
from diffusion_trainer.checkpoint.fencing import Fenced
from diffusion_trainer.checkpoint.names import run_folder
from diffusion_trainer.dataset import load_dataset
from diffusion_trainer.departure import Departure
from diffusion_trainer.finish import Finish
from diffusion_trainer.group import Group
from diffusion_trainer.inbox import Inbox
from diffusion_trainer.live_config import LiveConfig
from diffusion_trainer.peer_watch import PeerWatch
from diffusion_trainer.placement import Placement, must_leave, placement
from diffusion_trainer.process_messages import Orders
from diffusion_trainer.refusal import ConfigurationRefused
from diffusion_trainer.rendezvous import PeersLost, Superseded, is_peer_loss
from diffusion_trainer.reporter import Reporter
from diffusion_trainer.resumption import start_state
from diffusion_trainer.sampler import StatelessSampler
from diffusion_trainer.saver import Saver
from diffusion_trainer.settings import Settings
from diffusion_trainer.snapshot import Snapshots
from diffusion_trainer.state_agreement import find_most_advanced, share_state
from diffusion_trainer.training_loop import Data, Diverged, Interruption, Training
from diffusion_trainer.training_state import TrainingState, build_state

log = logging.getLogger(__name__)
_MOST_LETTERS = 1000
"""Of a report's sentence: one that repeats a value of the configuration could be too long for a packet."""


def run_trainer(settings: Settings, local_rank: int, inbox: Inbox, report: Reporter, writer: socket.socket) -> int:
    """Run one trainer process to its end; returns its exit code. Everything that went wrong was reported."""
    try:
        return TrainerProcess(settings, local_rank, inbox, report, writer).run()
    except (ConfigurationRefused, ConfigRefused) as error:
        report.tell(state="Failed", refused_path=error.path[:_MOST_LETTERS], message=error.why[:_MOST_LETTERS])
        return ExitCode.CONFIGURATION_REFUSED
    except (Diverged, ForkPoisoned) as error:
        report.tell(state="Failed", message=str(error))
        return ExitCode.DO_NOT_RETRY
    except Fenced as error:
        report.tell(state="Leaving", message=str(error))
        return ExitCode.RUN_AGAIN
    except Exception as error:  # noqa: BLE001 - the last words of a process that ends now
        log.error("the trainer ends: %s", traceback.format_exc())
        report.tell(state="Failed", message=f"{type(error).__name__}: {error}"[:_MOST_LETTERS])
        return 1


class TrainerProcess:
    """One process; see the module's drawing. All methods run in its training thread."""

    def __init__(
        self, settings: Settings, local_rank: int, inbox: Inbox, report: Reporter, writer: socket.socket
    ) -> None:
        self.settings, self.local_rank, self.inbox, self.report = settings, local_rank, inbox, report
        self.live = LiveConfig(settings.config_file)
        config = self.live.current
        self.folder = run_folder(settings.checkpoints, config.name, config.uid)
        self.saver = Saver(writer, self.folder, report, inbox)
        self.watch = PeerWatch(settings, inbox)
        inbox.start()
        self.device = choose_device(local_rank)
        log.info("computing on %s", name_device(self.device))
        refuse_precision(config, self.device)
        torch.backends.cudnn.deterministic = True  # Else a run that was resumed differs from one that never stopped.
        self.state: TrainingState = build_state(config, self.device)
        dataset = load_dataset(config)
        self.data = Data(dataset, StatelessSampler(len(dataset), config.training.seed))
        if local_rank == 0:
            # The writer is rank 0 or the lowest that stays, and pods leave as a whole: always the first of some pod.
            self.saver.preallocate(self.state.shards())
        snapshots = self.snapshots = Snapshots(settings, self.live, self.data, self.saver, self.state)
        self.departure = Departure(settings, inbox, report, snapshots, self.folder, local_rank)
        self._newest_tried = 0
        """The newest generation that this process has been in, or tried to be in."""
        self.interruption: Interruption | None = None

    def run(self) -> int:
        """Take part in one generation after the other until one of them says how to end."""
        report_state = "Ready"
        while True:
            self.report.tell(state=report_state, generation=0)
            self.inbox.wait(self._has_something_to_do)
            orders = self.inbox.orders
            place = self._place(orders)
            if place is None:
                return self.departure.leave_alone()
            code = self._take_part(place, orders)
            if code is not None:
                return code
            report_state = "Regrouping" if self.state.counters.step is not None else "Ready"

    def _has_something_to_do(self, orders: Orders) -> bool:
        instruction = orders.instruction
        if orders.terminating or (instruction is not None and must_leave(instruction, self.settings.uid)):
            return True
        return self._place(orders) is not None

    def _place(self, orders: Orders) -> Placement | None:
        """The place to take now: in a generation newer than the last one, unless this pod is to end."""
        instruction = orders.instruction
        if instruction is None or orders.terminating or must_leave(instruction, self.settings.uid):
            return None
        place = placement(instruction, self.settings.uid, self.local_rank)
        return place if place is not None and place.generation > self._newest_tried else None

    def _take_part(self, place: Placement, orders: Orders) -> int | None:
        """One generation; returns an exit code if this process ends with it, None to wait for the next."""
        assert orders.instruction is not None
        self._newest_tried = place.generation
        training: Training | None = None
        broken_off = self.watch.gathers(orders.instruction)
        try:
            with self._meet(place, broken_off) as group:
                self.watch.has_formed()
                training = self._begin(group, orders.instruction)
                self.watch.trains(training)
                return self._train(training)
        except Superseded as error:
            log.info("generation %d: %s", place.generation, error)
            return None
        except (PeersLost, RuntimeError, OSError) as error:
            if place.world == 1 or not is_peer_loss(error):
                raise
            self._note_broken(place, training, error)
            return None
        finally:
            self.watch.is_over()
            if training is not None:
                training.close()

    def _meet(self, place: Placement, broken_off: threading.Event) -> Group:
        why_stop = functools.partial(self.inbox.why_stop, place.generation)
        return Group(place, self.settings.address, why_stop, self.settings.rendezvous_seconds, broken_off)

    def _begin(self, group: Group, instruction: TrainerInstruction) -> Training:
        """Agree on the state of the last complete step, read it from a checkpoint if nobody has it, and get ready."""
        config = self.live.refresh()
        agreement = find_most_advanced(group, self.state)
        if agreement.source is None:
            if group.rank == 0:
                self._await_those_who_leave(group.generation)
            resume = instruction.resume_step
            start_state(group, self.state, self.folder, config, self.data, self.report, resume, self.settings.attempt)
        elif not agreement.everyone_has_it:
            share_state(group, self.state, agreement.source)
        # One target for all: the file that it stands in reaches the pods at different times.
        target = int(group.gather([config.training.target_steps]).max())
        log.info("generation %d: rank %d of %d, step %d", group.generation, group.rank, group.world, self.state.step)
        self.report.tell(state="Training", generation=group.generation, broken=None, step=self.state.step)
        patience = self.settings.operator_patience_seconds
        return Training(group, self.state, self.data, self.live, self.saver, self.inbox, self.report, target, patience)

    def _await_those_who_leave(self, generation: int) -> None:
        """Nobody who stays holds a state, and who is leaving may: read no checkpoint before they have saved theirs.

        A pod that never ends is not waited for longer than it may take to leave.
        """

        def have_left(orders: Orders) -> bool:
            told = orders.instruction
            others = told is not None and any(uid != self.settings.uid for uid in told.leaving)
            return not others or self.inbox.why_stop(generation) is not None

        if not have_left(self.inbox.orders):
            log.info("generation %d: waiting for what those who leave save", generation)
            self.inbox.wait(have_left, self.settings.leave_seconds)
        if why := self.inbox.why_stop(generation):
            raise Superseded(why)

    def _train(self, training: Training) -> int | None:
        """Steps until the target or the generation's end; then finish, leave, or go on to the next."""
        interruption, self.interruption = self.interruption, None
        group = training.group
        while True:
            boundary = training.run(lambda: self.snapshots.take(group, training.target, urgent=False), interruption)
            boundary = boundary or Finish(self.settings, training, self.snapshots, self.folder).run()
            if boundary is None:
                return ExitCode.TARGET_COMMITTED
            if boundary.ends(group.generation):
                break
            log.info("the target was raised to step %d while the run finished", boundary.target)
            training.target, interruption = boundary.target, None
            self.report.tell(state="Training")
        ended = time.monotonic()
        log.info("generation %d ends at step %d", group.generation, self.state.step)
        code = self.departure.settle(group, boundary, training.target)
        if code is None:
            self.interruption = Interruption(ended, lost_steps=0)
        return code

    def _note_broken(self, place: Placement, training: Training | None, error: Exception) -> None:
        lost = 1 if training is not None and training.step_under_way else 0
        if training is not None:
            self.interruption = Interruption(time.monotonic(), lost)
        log.warning(
            "generation %d is broken, state of step %s kept: %s", place.generation, self.state.counters.step, error
        )
        self.report.tell(state="Regrouping", generation=0, broken=place.generation, step=self.state.counters.step)


def refuse_precision(config: RunConfig, device: torch.device) -> None:
    """FP16 needs an accelerator: raise ConfigurationRefused without one."""
    if config.training.precision == "FP16" and device.type == "cpu":
        raise ConfigurationRefused("spec.training.precision", "FP16 needs a GPU: use FP32 or BF16 on CPUs")
