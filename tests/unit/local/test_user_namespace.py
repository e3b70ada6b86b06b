"""A user namespace with everybody in it for root, and with its maker alone for everybody else."""

import subprocess
import sys
from pathlib import Path

from diffusion_local import user_namespace
from diffusion_local.user_namespace import copied_map

ALONE = "import os; print(os.getuid(), os.getgid()); print(open('/proc/self/uid_map').read(), end='')"


def inside(*command: str) -> subprocess.CompletedProcess[str]:
    """Run `command` in a new namespace."""
    own = [sys.executable, "-S", "-s", "-P", str(Path(user_namespace.__file__))]
    return subprocess.run([*own, *command], capture_output=True, text=True, check=False, timeout=60)


def test_every_id_of_this_namespace_stays_what_it_is() -> None:
    assert (
        copied_map("         0     100000      65536\n     70000          5         1\n")
        == "0 0 65536\n70000 70000 1\n"
    )


def test_whoever_makes_it_is_root_inside() -> None:
    done = inside(sys.executable, "-S", "-c", ALONE)
    assert done.stdout.startswith("0 0\n"), done.stderr


def test_a_namespace_of_one_user_for_who_has_only_themselves() -> None:
    """The namespace inside is made by somebody who is root there, but has no other user to give."""
    script = str(Path(user_namespace.__file__))
    made = ("unshare", "--user", "--map-current-user", sys.executable, "-S", script, sys.executable, "-S", "-c", ALONE)
    done = subprocess.run(made, capture_output=True, text=True, check=False, timeout=60)
    numbers = done.stdout.split()
    assert numbers[:3] == ["0", "0", "0"], done.stderr
    assert numbers[4] == "1"


def test_a_command_that_is_not_there_is_one_line() -> None:
    done = inside("/no/such/command")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == ["/no/such/command: No such file or directory"]
