"""A network of its own for each pod: its address on `eth0`, loopback for itself, a route to everybody else.

The pod's end of a veth pair lies in a network namespace that the node agent holds open by a descriptor; the other end
stays in the cluster's namespace, which routes between pods and answers for the gateway, a link-local address. So two
pods may bind the same port on all addresses, as on any cluster. When the last process and the descriptor are gone, the
kernel removes the namespace and the pair with it.
"""

import asyncio
import ctypes
import os
from dataclasses import dataclass

from diffusion_local.network import GATEWAY
from diffusion_local.node.mounts import libc

CLONE_NEWNET = 0x40000000
INSIDE = f"""\
link set lo up
addr add {{address}}/32 dev eth0
link set eth0 up
route add {GATEWAY} dev eth0 scope link
route add default via {GATEWAY} dev eth0
"""
ALLOW_LOW_PORTS = "echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start"


class NetworkNotReady(Exception):
    """The pod's network cannot be made now; the message says which step failed."""


@dataclass(frozen=True)
class PodNetwork:
    """A pod's network namespace, held open until `close`."""

    descriptor: int

    def close(self) -> None:
        """Let go of the namespace; it ends with the last process in it."""
        os.close(self.descriptor)


async def create_pod_network(address: str) -> PodNetwork:
    """Make a network whose only address is `address`; raises NetworkNotReady, leaving nothing behind."""
    network = PodNetwork(_new_namespace())
    try:
        path = f"/proc/{os.getpid()}/fd/{network.descriptor}"
        outside = interface_of(address)
        await _run(
            ["ip", "-batch", "-"],
            f"link add {outside} type veth peer name eth0 netns {path}\n"
            f"link set {outside} up\n"
            f"route replace {address}/32 dev {outside}\n",
        )
        inside = ["nsenter", f"--net={path}", "sh", "-c", f"{ALLOW_LOW_PORTS}; exec ip -batch -"]
        await _run(inside, INSIDE.format(address=address))
    except BaseException:  # refused, or the pod is not wanted any more
        network.close()
        raise
    return network


async def exist(address: str) -> None:
    """Make the node's own address exist in the cluster's namespace."""
    await _run(["ip", "route", "replace", "local", address, "dev", "lo"], "")


def interface_of(address: str) -> str:
    """Return the name of the cluster's end of a pod's pair: unique, and at most 15 characters."""
    return "veth-" + "-".join(address.split(".")[2:])


def _new_namespace() -> int:
    """Return a descriptor of a fresh network namespace; the calling thread is back in its own afterwards."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            raise NetworkNotReady(f"unshare: {os.strerror(ctypes.get_errno())}")
        try:
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        finally:
            libc.setns(own, CLONE_NEWNET)
    finally:
        os.close(own)


async def _run(command: list[str], stdin: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate(stdin.encode())
    if process.returncode:
        raise NetworkNotReady(f"{command[0]}: {output.decode(errors='replace').strip()}")
