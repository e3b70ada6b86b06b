"""One pod from its arrival on the node to its removal from the API: one coroutine, woken by whatever happens.

Each turn asks `decide` what to do, does it, and has the status written. Everything observed is kept in `record`.
"""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Iterable
from dataclasses import replace

from diffusion_local.node.api_client import ApiError, ApiUnavailable
from diffusion_local.node.back_off import delay_before_pull, delay_before_retry, failures_in_a_row
from diffusion_local.node.configuration import Manifest
from diffusion_local.node.container_run import ContainerRun
from diffusion_local.node.container_start import CommandNotStarted, NotStartable, PodPlace, start_container
from diffusion_local.node.environment import Surroundings, referenced_objects
from diffusion_local.node.launch_plan import hostname_of
from diffusion_local.node.machine_files import own_lines
from diffusion_local.node.payloads import VolumeNotReady, referenced_by_volume
from diffusion_local.node.pod_decisions import decide
from diffusion_local.node.pod_record import (
    ContainerRecord,
    PodRecord,
    Running,
    Terminated,
    Verdict,
    Waiting,
    init_containers,
    is_sidecar,
    main_containers,
)
from diffusion_local.node.pod_status import TERMINAL_PHASES, lost_record, pod_status
from diffusion_local.node.pod_stop import PodStop
from diffusion_local.node.services import NodeServices
from diffusion_local.node.status_writer import StatusWriter, delete_for_good
from diffusion_local.node.volumes import PodVolumes

DEFAULT_GRACE = 30.0
RETRY_SECONDS = 2.0
log = logging.getLogger(__name__)


class PodWorker:
    """Everything about one pod. `run` is its life; the other public methods tell it what happened outside."""

    def __init__(self, services: NodeServices, pod: Manifest) -> None:
        self.services = services
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self.name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        self.record = PodRecord(accepted_at=services.clock())
        self.writer = StatusWriter(services.api, pod)
        directory = services.pod_directory(pod)
        self.place = PodPlace(directory, "", PodVolumes(services.api, pod, directory / "volumes"))
        self.runs: dict[str, ContainerRun] = {}
        self.woken = asyncio.Event()
        self.refresh_now = asyncio.Event()
        self.refresher: asyncio.Task[None] | None = None
        self.removed = False
        """The pod is no longer in the API."""
        self.stop = PodStop(self)

    # ---- what others tell

    def update(self, pod: Manifest) -> None:
        """The pod changed in the API."""
        before, self.pod = self.pod["metadata"], pod
        if any(before.get(field) != pod["metadata"].get(field) for field in ("labels", "annotations")):
            self.objects_changed()
        self.wake()

    def forget(self) -> None:
        """The pod vanished from the API: whatever still runs is killed."""
        self.removed = True
        self.wake()

    def end(self, failure: Verdict, disruption: Verdict | None, grace: float) -> None:
        """The node ends the pod."""
        self.record = replace(self.record, failure=self.record.failure or failure, disruption=disruption)
        self.stop.begin(grace)
        self.wake()

    def wake(self) -> None:
        """Have the next turn taken."""
        self.woken.set()

    @property
    def grace(self) -> float:
        """Seconds that the pod's containers get to end."""
        given = self.pod["metadata"].get("deletionGracePeriodSeconds")
        if given is None:
            given = self.pod["spec"].get("terminationGracePeriodSeconds")
        return DEFAULT_GRACE if given is None else float(given)

    @property
    def lives(self) -> bool:
        """Whether the pod has not reached its end yet."""
        return self.status()["phase"] not in TERMINAL_PHASES and not self.removed

    # ---- its life

    async def run(self) -> None:
        """Live until the pod is gone from the API and everything of it from this machine."""
        try:
            before = self.pod.get("status") or {}
            if before.get("phase") not in TERMINAL_PHASES:
                if before.get("startTime"):
                    self.record = lost_record(self.pod, self.services.clock())
                    self.publish()
                else:
                    await self.live()
            await self.leave()
        except Exception:
            log.exception("pod %s", self.name)
            raise
        finally:
            self.clean_up()

    async def live(self) -> None:
        """From the volumes to the end of the last container."""
        self.arrive()
        await self.prepare()
        while True:
            self.woken.clear()
            if self.removed or self.pod["metadata"].get("deletionTimestamp"):
                self.stop.begin(0.0 if self.removed else self.grace)
            wake_at = await self.take_turn()
            if not any(run.alive for run in self.runs.values()) and self.over():
                return
            await self.sleep_until(wake_at)

    def over(self) -> bool:
        """Whether nothing will be started any more."""
        return self.record.stopping or self.record.failure is not None or self.status()["phase"] in TERMINAL_PHASES

    async def take_turn(self) -> float:
        """Decide and act once; the moment at which to look again."""
        decision = decide(self.pod, self.record, self.services.clock())
        if decision.failure is not None:
            self.end(decision.failure, None, self.grace)
        for name, waiting in decision.waiting.items():
            self.hold(name, waiting)
        for name in decision.start:
            await self.start(name)
        if decision.over and not self.record.stopping and not self.main_alive():
            self.stop.begin(self.grace, sidecars_only=True)
        self.publish()
        return decision.wake_at

    def main_alive(self) -> bool:
        """Whether a container proper still runs."""
        return any(run.alive for name, run in self.runs.items() if not is_sidecar(run.container))

    async def sleep_until(self, moment: float) -> None:
        """Wait to be woken, or for the moment."""
        with contextlib.suppress(TimeoutError):
            seconds = min(max(moment - self.services.clock(), 0.01), 3600.0)
            await asyncio.wait_for(self.woken.wait(), seconds)

    # ---- before the first container

    def arrive(self) -> None:
        """Take an address, tell that the pod was seen, and begin to follow what it refers to."""
        namespace = self.pod["metadata"]["namespace"]
        host_network = self.pod["spec"].get("hostNetwork")
        self.place.ip = self.services.configuration.address if host_network else self.services.addresses.take()
        self.place.directory.mkdir(parents=True, exist_ok=True)
        self.publish()
        containers = [*init_containers(self.pod), *main_containers(self.pod)]
        names = {key for container in containers for key in referenced_objects(container)}
        names |= self.shown_objects()
        self.services.objects.use(self.uid, namespace, names, self.objects_changed)
        spec = self.pod["spec"]
        own = own_lines(
            self.place.ip, hostname_of(self.pod), spec.get("subdomain") or "", namespace, spec.get("hostAliases") or []
        )
        self.services.hosts.add(self.place.hosts_file, own, namespace)

    def shown_objects(self) -> set[tuple[str, str]]:
        """The ConfigMaps and Secrets that the pod's volumes show."""
        return {key for volume in self.pod["spec"].get("volumes") or [] for key in referenced_by_volume(volume)}

    async def surroundings(self) -> Surroundings:
        """What the volumes are filled from."""
        objects = await self.services.objects.get(self.pod["metadata"]["namespace"], self.shown_objects())
        address = self.services.configuration.address
        return Surroundings(self.pod, self.place.ip, address, self.services.allocatable, objects)

    async def prepare(self) -> None:
        """Fill the volumes; tries again until it works or the pod is to end."""
        attempts = 0
        while not (self.removed or self.pod["metadata"].get("deletionTimestamp") or self.record.failure):
            try:
                await self.place.volumes.prepare(await self.surroundings())
            except (VolumeNotReady, ApiError, ApiUnavailable, OSError) as error:
                attempts += 1
                self.services.events.tell(self.pod, "Warning", "FailedMount", f"MountVolume.SetUp failed: {error}")
                self.woken.clear()
                await self.sleep_until(self.services.clock() + delay_before_retry(attempts))
                continue
            self.record = replace(self.record, sandbox_ready=True, ip=self.place.ip)
            self.refresher = asyncio.create_task(self.refresh())
            return

    def objects_changed(self) -> None:
        """A ConfigMap or Secret that the pod refers to is new or different."""
        self.refresh_now.set()
        self.wake()

    async def refresh(self) -> None:
        """Keep the volumes' content fresh while the pod lives."""
        while True:
            due = self.place.volumes.tokens.next_renewal - self.services.clock()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.refresh_now.wait(), min(max(due, RETRY_SECONDS), 60.0))
            self.refresh_now.clear()
            try:
                await self.place.volumes.refresh(await self.surroundings())
            except (VolumeNotReady, ApiError, ApiUnavailable, OSError) as error:
                log.info("volumes of %s stay as they are: %s", self.name, error)

    # ---- containers

    def put(self, name: str, record: ContainerRecord) -> None:
        """Replace what is known of a container."""
        self.record = replace(self.record, containers={**self.record.containers, name: record})

    def hold(self, name: str, waiting: Waiting) -> None:
        """Let a container wait, keeping how it ended."""
        known = self.record.containers[name]
        self.put(name, replace(known, state=waiting, last=known.termination or known.last, started=False, ready=False))
        kind = "pulling image" if waiting.reason == "ImagePullBackOff" else "restarting"
        self.services.events.tell(self.pod, "Warning", "BackOff", f"Back-off {kind}: {waiting.message}")

    async def start(self, name: str) -> None:
        """Start a container, for the first time or again."""
        containers: Iterable[Manifest] = [*init_containers(self.pod), *main_containers(self.pod)]
        container = next(entry for entry in containers if entry["name"] == name)
        known = self.record.containers.get(name)
        ended = known.termination if known is not None else None
        restarts = 0 if known is None else known.restarts + (1 if ended is not None else 0)
        begun = self.services.clock()
        try:
            started = await start_container(self.services, self.pod, container, self.place, restarts)
        except NotStartable as problem:
            self.not_startable(name, known, problem)
            return
        except CommandNotStarted as problem:
            message = f"failed to create task for container: {problem}"
            self.services.events.tell(self.pod, "Warning", "Failed", f"Error: {message}")
            failures = failures_in_a_row(known.failures if known else 0, 0.0)
            state = Terminated(128, "StartError", message, 0.0, self.services.clock(), f"{self.uid}-{name}-{restarts}")
            self.put(name, ContainerRecord(state, ended, restarts, failures, container_id=state.container_id))
            self.wake()
            return
        failures = known.failures if known is not None and ended is not None else 0
        container_id = f"{self.uid}-{name}-{restarts}"
        last = ended or (known.last if known is not None else None)
        self.put(name, ContainerRecord(Running(begun), last, restarts, failures, container_id=container_id))
        self.services.events.tell(self.pod, "Normal", "Started", f"Container started: {name}")
        self.runs[name] = ContainerRun(self, container, started, restarts)

    def not_startable(self, name: str, known: ContainerRecord | None, problem: NotStartable) -> None:
        """Let a container wait, and say when it is tried again."""
        now = self.services.clock()
        pull = problem.reason == "ErrImagePull"
        failures = (known.failures if known is not None else 0) + 1
        again = now + (delay_before_pull(failures) if pull else RETRY_SECONDS)
        base = known if known is not None else ContainerRecord(Waiting(problem.reason))
        state = Waiting(problem.reason, problem.message)
        last = base.termination or base.last
        self.put(name, replace(base, state=state, last=last, failures=failures, retry_at=again, failed_at=now))
        self.services.events.tell(self.pod, "Warning", "Failed", f"Error: {problem.reason}: {problem.message}")

    # ---- status and the end

    def status(self) -> Manifest:
        """The status as it should be now."""
        address, now = self.services.configuration.address, self.services.clock()
        return pod_status(self.pod, self.record, address, self.writer.wanted, now)

    def publish(self) -> None:
        """Have the status written if it differs."""
        self.writer.put(self.status())

    async def leave(self) -> None:
        """Wait until the pod is deleted, see its last status stored, and remove it from the API."""
        while not (self.removed or self.pod["metadata"].get("deletionTimestamp")):
            self.woken.clear()
            await self.woken.wait()
        if not self.removed:
            await self.writer.flush()
            await delete_for_good(self.services.api, self.pod)
        while not self.removed:
            self.woken.clear()
            await self.woken.wait()

    def clean_up(self) -> None:
        """Leave nothing behind on this machine."""
        self.services.objects.release(self.uid)
        self.services.hosts.remove(self.place.hosts_file)
        self.services.addresses.give_back(self.place.ip)
        if self.refresher is not None:
            self.refresher.cancel()
        self.place.volumes.remove()
        shutil.rmtree(self.place.directory, ignore_errors=True)
