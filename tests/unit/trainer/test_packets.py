"""What the kernel tells of a process that has gone, and what that process had said before: both are heard."""

import os
import socket
import subprocess
import sys

from diffusion_trainer.child_process import ChildProcess
from diffusion_trainer.packets import packet_pair, receive
from diffusion_trainer.process_messages import Orders, ProcessUpdate


def test_packets_stay_whole_and_bring_their_descriptors() -> None:
    ours, theirs = packet_pair()
    with ours:
        with theirs:
            theirs.send(b"one")
            reader, writer = os.pipe()
            os.write(writer, b"content")
            socket.send_fds(theirs, [b"two"], [reader])
            os.close(reader)
            os.close(writer)
        assert receive(ours) == (b"one", [])
        packet, (found,) = receive(ours, most_descriptors=1)
        assert (packet, os.read(found, 9)) == (b"two", b"content")
        os.close(found)
        assert receive(ours) == receive(ours) == (b"", [])


def test_the_last_words_of_a_process_are_heard_though_it_had_left_orders_unread() -> None:
    ours, theirs = packet_pair()
    process = ChildProcess(0, 0, ours)
    process.order(Orders())
    for update in (ProcessUpdate(step=7), ProcessUpdate(state="Failed", refused_path="spec.dataset.uri")):
        theirs.send(update.to_packet())
    theirs.close()
    assert process.hear() == ProcessUpdate(step=7)
    assert process.hear() == ProcessUpdate(state="Failed", refused_path="spec.dataset.uri")
    assert process.hear() is None
    process.close()


FAILS = """
import os
from diffusion_trainer.log_lines import start_logging
from diffusion_trainer.zygote import fork
start_logging("forked")
def fail():
    raise KeyError("a bug")
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(fork(fail, []), 0)[1]))
"""


def test_a_forked_process_that_fails_says_why() -> None:
    done = subprocess.run([sys.executable, "-c", FAILS], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "KeyError: 'a bug'" in done.stderr
