"""Packets between the processes of a pod: a socket pair keeps each whole, and tells when the other end has gone."""

import socket

PACKET_BYTES = 192 * 1024
"""The longest that is sent; the kernel takes somewhat longer ones (net.core.wmem_default)."""


def packet_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends that are connected with each other, and that nobody else can reach."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def receive(end: socket.socket, most_descriptors: int = 0) -> tuple[bytes, list[int]]:
    """The next packet and the descriptors that came with it; an empty one once the other end has gone.

    What that one had sent is heard before. If it has gone with something unread, the kernel says so first
    (ECONNRESET), and hands its packets over afterwards: its last words, or a checkpoint that it wanted to be saved.
    """
    try:
        packet, descriptors, _flags, _address = socket.recv_fds(end, PACKET_BYTES, most_descriptors)
    except ConnectionResetError:
        return receive(end, most_descriptors)
    return packet, descriptors
