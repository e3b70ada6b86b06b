"""Members of one generation meet, and become a torch.distributed group.

Each rank connects to the store that rank 0 opens at the generation's own port, says that it is here, and waits until
all are. Then there is one verdict, which the first to write it decides for all: `go` by one who saw all of them here,
`withdrawn` by one who must not wait any longer (a newer generation, the pod's end, the deadline). So the process group
is made only by members who all make it, and making it never waits for somebody who is not coming; a member that dies in
that very moment costs FORMING_SECONDS, or less when the trainer breaks the connections off.
"""

import contextlib
import fcntl
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore  # torch.distributed exports it too, but not to type checkers
from torch.distributed.distributed_c10d import PrefixStore, Store, _abort_process_group

from diffusion_trainer.own_process import open_descriptors
from diffusion_trainer.placement import Placement

_SIOCGIFADDR = 0x8915
COLLECTIVE_SECONDS = 600
_CONNECT_SECONDS, _CONNECT_TRIES = 5, 5
FORMING_SECONDS = _CONNECT_SECONDS * _CONNECT_TRIES
"""How long making the process group may take, once every member has said that it makes it: gloo tries so many times to
reach a member that has gone, each for as long as the group's timeout says."""
_POLL_SECONDS = 0.005
_GO, _WITHDRAWN = b"go", b"withdrawn"

WhyStop = Callable[[], str | None]
"""Why a generation that still gathers is not wanted any more; None while it is."""


class Superseded(Exception):
    """A generation that was still gathering is not wanted by this process any more."""


class PeersLost(Exception):
    """The generation does not work: a member did not come, or went away."""


def meet(place: Placement, address: str, why_stop: WhyStop, seconds: float) -> Store:
    """Wait for all ranks of the generation and make the default process group.

    `address` is this pod's own. Raises Superseded as `why_stop` says, or PeersLost.
    """
    deadline = time.monotonic() + seconds

    def check() -> None:
        if reason := why_stop():
            raise Superseded(reason)
        if time.monotonic() > deadline:
            raise PeersLost(f"not all {place.world} processes of generation {place.generation} came in {seconds:g} s")

    try:
        store = _open_store(place, address, check)
        decide(store, place, check)
        _make_group(store, place, address)
    except (dist.DistError, RuntimeError, OSError) as error:
        leave_group()
        raise PeersLost(f"generation {place.generation} could not be formed: {error}") from error
    return store


def _open_store(place: Placement, address: str, check: Callable[[], None]) -> TCPStore:
    listening = _listen(address, place.master_port) if place.rank == 0 else None
    while listening is None and not _answers(place.master_address, place.master_port):
        check()
        time.sleep(_POLL_SECONDS)
    host = address if listening is not None else place.master_address
    return TCPStore(
        host,
        place.master_port,
        None,
        listening is not None,
        timeout=timedelta(seconds=10),
        wait_for_workers=False,
        master_listen_fd=None if listening is None else listening.detach(),
    )


def _listen(address: str, port: int) -> socket.socket:
    """Listen at this pod's own address only, so that other pods of the same host may use the same port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((address, port))
    listening.listen(1024)
    return listening


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=0.5).close()
    except OSError:
        return False
    return True


def decide(store: Store, place: Placement, check: Callable[[], None]) -> None:
    """Wait until all ranks are here and the verdict is `go`; raises PeersLost where another one has withdrawn.

    What `check` raises withdraws for all, unless somebody has said `go` before: then this rank goes as well, and hears
    at the first boundary what it would have left for. A `go` that is older than this process is not for it: it has
    taken the place of one that died, with whose connections the generation was made.
    """
    if store.check(["verdict"]) and store.get("verdict") == _GO:
        raise PeersLost(f"generation {place.generation} was decided before this process came")
    store.set(f"here/{place.rank}", "1")
    everyone = [f"here/{rank}" for rank in range(place.world)]
    try:
        while not store.check(everyone):
            check()
            time.sleep(_POLL_SECONDS)
    except (Superseded, PeersLost):
        if store.compare_set("verdict", "", _WITHDRAWN.decode()) != _GO:
            raise
    if store.compare_set("verdict", "", _GO.decode()) != _GO:
        raise PeersLost(f"a member of generation {place.generation} has withdrawn from it")


def _make_group(store: Store, place: Placement, address: str) -> None:
    os.environ.update(distributed_environment(place))
    interface = interface_with(address)
    if interface is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = interface
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if _has_accelerator() else "gloo",
        store=PrefixStore(f"generation/{place.generation}", store),
        rank=place.rank,
        world_size=place.world,
        timeout=timedelta(seconds=_CONNECT_SECONDS),
    )
    dist.set_timeout(timedelta(seconds=COLLECTIVE_SECONDS))


def distributed_environment(place: Placement) -> dict[str, str]:
    """The plain variables that torch.distributed and accelerate read."""
    return {
        "RANK": str(place.rank),
        "WORLD_SIZE": str(place.world),
        "LOCAL_RANK": str(place.local_rank),
        "LOCAL_WORLD_SIZE": str(place.local_world),
        "MASTER_ADDR": place.master_address,
        "MASTER_PORT": str(place.master_port),
    }


def _has_accelerator() -> bool:
    return bool(torch.cuda.is_initialized())


def interface_with(address: str) -> str | None:
    """The network interface that holds this IPv4 address; None where none does (a routed range, or IPv6)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _index, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # An interface without an IPv4 address.
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return None


def leave_group() -> None:
    """Take the process group down, whatever state it is in."""
    if dist.is_initialized():
        with contextlib.suppress(RuntimeError, dist.DistError):  # Its peers may be gone: there is nobody to tell.
            way_to_end(_has_accelerator())()


def way_to_end(has_accelerator: bool) -> Callable[[], None]:
    """How the default group is taken down: with NCCL by an abort, since to destroy it waits for what its peers owe.

    Gloo waits for nobody. The abort is torch's own, though not public in this version.
    """
    return _abort_process_group if has_accelerator else dist.destroy_process_group


def break_connections(broken_off: threading.Event) -> None:
    """Make a collective that waits for a hung peer end. Callable from another thread.

    Every TCP connection of this process is shut, and it has no others than those of its group. NCCL may use other ways
    than TCP, so its communicators are aborted, which lets go of kernels that wait on the GPU. They may then end without
    an error and with half of a result, so `broken_off` is set before: whoever uses a result looks at it first.
    """
    broken_off.set()
    _shut_connections()
    if _has_accelerator() and (group := dist.group.WORLD) is not None:
        group.abort()


def _shut_connections() -> None:
    for descriptor in open_descriptors():
        with contextlib.suppress(OSError):
            connection = socket.socket(fileno=descriptor)  # Raises for what is no socket.
            try:
                if connection.family in (socket.AF_INET, socket.AF_INET6):
                    connection.getpeername()  # Raises for one that only listens: the store is left alone.
                    connection.shutdown(socket.SHUT_RDWR)
            finally:
                connection.detach()


def is_peer_loss(error: BaseException) -> bool:
    """True for what collectives raise when another rank has gone; False for an error of this process's own."""
    if isinstance(error, PeersLost | dist.DistError):
        return True
    marks = (
        "gloo/transport",
        "Connection closed by peer",
        "Connection reset by peer",
        "Broken pipe",
        "NCCL",
        "ncclRemoteError",
    )
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in marks)
