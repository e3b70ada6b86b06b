"""The worker's agent: PID 1 of a trainer pod. It starts the processes, speaks with the operator, and imports no torch.

All of its state belongs to one asyncio loop. Two things happen elsewhere: polls of the operator (a thread of
OperatorLink, which calls back into the loop) and everything that trains (forked by the zygote).
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping

from diffusion_contract.agent_channel import AgentChannel
from diffusion_contract.agent_messages import TrainerInstruction, TrainerReport
from diffusion_contract.exit_codes import ExitCode
from diffusion_contract.last_words import write_last_words
from diffusion_trainer.child_process import ChildProcess
from diffusion_trainer.operator_link import OperatorLink
from diffusion_trainer.own_process import AGENT_SIGNALS, ended_children
from diffusion_trainer.packets import packet_pair, receive
from diffusion_trainer.process_messages import Orders
from diffusion_trainer.settings import Settings
from diffusion_trainer.thread_limits import cpu_limit, thread_environment
from diffusion_trainer.worker_report import AGREED_ENDS, exit_code_for, is_urgent, last_words, merged, worker_report

log = logging.getLogger(__name__)

REPLACEMENTS = 5
"""How many processes killed by a signal are replaced in a row before the pod gives up. What counts as progress in
between is only a step that no process of this pod had reached before the kill: one that is killed at the same step
again and again, after a few steps that it has made already, must not be replaced for ever."""
WRITER_SECONDS = 10.0
"""How long the end of a crashed worker may wait for the checkpoint that a process of it had handed over before."""
HOLD_SECONDS, MASTER_HOLD_SECONDS = 25.0, 2.0
"""How long a poll may be held that is not urgent. The master's reports are those that show progress, so they come more
often."""

StartZygote = Callable[[Settings, socket.socket], int]
"""Starts the process that forks the trainers, with the other end of its socket; returns its pid."""


def zygote_environment(environment: Mapping[str, str], processes: int) -> dict[str, str]:
    """What must stand in the environment before the process that forks the trainers imports anything."""
    return {
        **thread_environment(environment, processes, cpu_limit()),
        # diffusers asks at its import whether there is an accelerator. Without this torch answers through the CUDA
        # runtime, and no process that is forked afterwards can use a GPU.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        # A lost peer is ours to handle. Torch would end the process, and its state in memory with it: once it sees the
        # error, or if its own threads have been stuck for long; and it would hold up the next generation for a minute,
        # in which flight records of the last one may be written.
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "0",
        "TORCH_NCCL_ENABLE_MONITORING": "0",
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "0",
        "TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC": "1",
    }


def spawn_zygote(settings: Settings, link: socket.socket) -> int:
    """Start it with the thread limits in its environment; its imports take several seconds."""
    environment = {**os.environ, **zygote_environment(os.environ, settings.processes)}
    command = [sys.executable, "-m", "diffusion_trainer.zygote", str(link.fileno()), settings.model_dump_json()]
    log.info("importing the libraries, %s thread(s) for each process", environment["OMP_NUM_THREADS"])
    # A signal to the whole process group may come before the child can say that it ignores it: it is born with a mask.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, AGENT_SIGNALS)
    try:
        return subprocess.Popen(command, env=environment, pass_fds=[link.fileno()]).pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def run_agent(settings: Settings, channel: AgentChannel, start_zygote: StartZygote = spawn_zygote) -> int:
    """Be the agent until the worker's end; returns the pod's exit code, after the last words were written."""
    return await Agent(settings, channel, start_zygote).run()


class Agent:
    """One worker, from its start to its exit code. Belongs to the loop in which it is made."""

    def __init__(self, settings: Settings, channel: AgentChannel, start_zygote: StartZygote) -> None:
        self.settings = settings
        self._start_zygote = start_zygote
        self.orders = Orders()
        self.processes: dict[int, ChildProcess] = {}
        self.exit_codes: dict[int, int] = {}
        self._inherited: dict[int, dict[str, object]] = {}
        self.ready = False
        self.replaced = 0
        self._furthest = self._furthest_before_kill = -1
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[int] = self._loop.create_future()
        self._link = OperatorLink(channel, self._report_and_hold, self._instructed)
        self._report = TrainerReport(attempt=settings.attempt, state="Starting")
        self._zygote, self._zygotes_end = packet_pair()
        self._zygote_gone = asyncio.Event()
        self._zygote_pid = 0

    async def run(self) -> int:
        """See run_agent."""
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._terminate)
        with self._zygotes_end:
            self._zygote_pid = self._start_zygote(self.settings, self._zygotes_end)
        self._loop.add_reader(self._zygote, self._hear_zygote)
        self._beat()
        self._link.start()
        code = await self._done
        await self._say_goodbye(code)
        return code

    def _hear_zygote(self) -> None:
        packet, descriptors = receive(self._zygote, most_descriptors=1)
        if not packet:
            self._loop.remove_reader(self._zygote)
            self._zygote_gone.set()
            self._end(1, "the process that forks the trainers has gone")
            return
        message = json.loads(packet)
        if "ready" in message:
            log.info("libraries imported in %s s", message["ready"])
            if message["threads"] != 1:
                log.warning("the process that is forked from has %d threads; forks may hang", message["threads"])
            self.ready = True
            for local_rank in range(self.settings.processes):
                self._fork(local_rank)
        elif "forked" in message:
            local_rank, link = message["forked"], socket.socket(fileno=descriptors[0])
            self._adopt(ChildProcess(local_rank, message["pid"], link, self._inherited.pop(local_rank, {})))
        elif "exited" in message:
            self._process_exited(message["exited"], message["code"])

    def _fork(self, local_rank: int) -> None:
        self._zygote.send(json.dumps({"fork": local_rank}).encode())

    def _adopt(self, process: ChildProcess) -> None:
        self.processes[process.local_rank] = process
        self._loop.add_reader(process.link, self._hear_process, process)
        process.order(self.orders)

    def _hear_process(self, process: ChildProcess) -> None:
        update = process.hear()
        if update is None:
            self._loop.remove_reader(process.link)
            process.close()
            return
        urgent = is_urgent(process.known, update)
        process.known = merged(process.known, update)
        if update.loss is not None and update.step is not None:
            self._note_step(update.step)
        self._report_changed(urgent)

    def _note_step(self, step: int) -> None:
        """A step beyond all that were made before the last kill: whatever killed the process is past."""
        self._furthest = max(self._furthest, step)
        if self._furthest > self._furthest_before_kill:
            self.replaced = 0

    def _report_changed(self, urgent: bool) -> None:
        known = [process.known for _rank, process in sorted(self.processes.items())]
        self._report = worker_report(known, self.settings.attempt, self.ready, self.orders.terminating)
        if urgent:
            self._link.tell_now()

    def _report_and_hold(self) -> tuple[TrainerReport, float]:
        """For the link's thread: the newest report, and how long its poll may be held."""
        instruction = self.orders.instruction
        is_master = instruction is not None and instruction.members and instruction.members[0].uid == self.settings.uid
        return self._report, MASTER_HOLD_SECONDS if is_master else HOLD_SECONDS

    def _instructed(self, instruction: TrainerInstruction) -> None:
        """For the link's thread: hand a new instruction to the loop."""
        self._loop.call_soon_threadsafe(self.obey, instruction)

    def obey(self, instruction: TrainerInstruction) -> None:
        """Pass a new instruction on to the trainer processes."""
        if instruction.attempt != self.settings.attempt:
            log.warning(
                "an instruction for attempt %d is not for this worker (%d)", instruction.attempt, self.settings.attempt
            )
            return
        log.info(
            "generation %d with %d worker(s)%s",
            instruction.generation,
            len(instruction.members),
            ", stop" if instruction.stop else "",
        )
        self._command(self.orders.model_copy(update={"instruction": instruction}))

    def _terminate(self) -> None:
        if self.orders.terminating:
            return
        log.info("told to end: leaving at the next agreed step")
        self._command(self.orders.model_copy(update={"terminating": True}))
        self._report_changed(urgent=True)
        if not self.processes:
            self._end(ExitCode.RUN_AGAIN, "told to end before training had begun")

    def _command(self, orders: Orders) -> None:
        self.orders = orders
        for process in self.processes.values():
            process.order(orders)

    def _beat(self) -> None:
        """Ask every process for a sign of life, now and again."""
        for process in self.processes.values():
            process.beat(self.orders)
        self._loop.call_later(self.settings.beat_seconds, self._beat)

    def _process_exited(self, pid: int, code: int) -> None:
        process = next((one for one in self.processes.values() if one.pid == pid), None)
        if process is None:
            return
        while process.open:
            self._hear_process(process)  # What it said last is still in the socket.
        if code < 0 and not self.orders.terminating and self.replaced < REPLACEMENTS:
            self._replace(process, code)
            return
        self.exit_codes[process.local_rank] = code
        log.info("process %d ended with code %d", process.local_rank, code)
        verdict = exit_code_for(self.exit_codes.values())
        if verdict is not None and (len(self.exit_codes) == self.settings.processes or verdict not in AGREED_ENDS):
            self._end(verdict, str(process.known.get("message") or ""))

    def _replace(self, process: ChildProcess, code: int) -> None:
        """A process killed by a signal is forked anew; it rejoins without state, in a generation still to come."""
        self.replaced += 1
        self._furthest_before_kill = self._furthest
        log.warning("process %d was killed by signal %d; it is replaced (%d)", process.local_rank, -code, self.replaced)
        was_in = process.known.get("generation") or process.known.get("broken")
        process.known = {**process.known, "state": "Ready", "generation": 0, "step": None, "broken": was_in}
        self._inherited[process.local_rank] = process.known
        self._report_changed(urgent=True)
        self._fork(process.local_rank)

    def _reap(self) -> None:
        """Collect the zygote and, as PID 1, whatever orphans the kernel gives us."""
        for pid, code in ended_children():
            if pid == self._zygote_pid:
                self._zygote_gone.set()
                self._end(1, f"the process that forks the trainers ended with {code}")

    def _end(self, code: int, message: str) -> None:
        if not self._done.done():
            self._report_changed(urgent=True)
            words = last_words(self._report, code, message, self._refused_path())
            log.info("%s", ": ".join(filter(None, (f"the worker ends with code {code}", words.path, words.message))))
            write_last_words(self.settings.termination_file, words)
            self._done.set_result(int(code))

    def _refused_path(self) -> str | None:
        paths = [process.known.get("refused_path") for process in self.processes.values()]
        return next((str(path) for path in paths if path), None)

    async def _say_goodbye(self, code: int) -> None:
        """Give the link a moment to tell the last report; the termination message says the same if it cannot."""
        if code not in AGREED_ENDS:
            await self._let_writers_finish()
        await asyncio.to_thread(self._link.finish, 1.0)
        self._zygote.close()

    async def _let_writers_finish(self) -> None:
        """What a process handed over before it crashed may still be committed: PID 1 must not end before."""
        if self._zygote_gone.is_set():
            return
        with contextlib.suppress(OSError, TimeoutError):
            self._zygote.send(json.dumps({"finish": WRITER_SECONDS}).encode())
            await asyncio.wait_for(self._zygote_gone.wait(), WRITER_SECONDS + 1)
