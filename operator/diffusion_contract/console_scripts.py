"""The console scripts. Each imports its command when it is called: a missing extra is a line that names it."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module

from diffusion_contract.exit_codes import ExitCode

SCRIPTS = {
    "diffusion-operator": ("diffusion_operator.cli.operator_command", "operator"),
    "kubectl-diffusion": ("diffusion_operator.cli.kubectl_plugin", "operator"),
    "diffusion-local": ("diffusion_local.command", "local"),
    "diffusion-trainer": ("diffusion_trainer.command", "trainer"),
    "diffusion-server": ("diffusion_server.command", "server"),
    "diffusion-router": ("diffusion_router.command", "router"),
}
"""By its name: the module whose `main` it is, and the extra of the distribution that has all it imports."""


ONE_MORE_LINE = "\n"
"""Tells after an OSError whether standard output failed: a stream without a buffer has forgotten what was refused."""


def _script(name: str) -> Callable[[], None]:
    module, extra = SCRIPTS[name]
    nothing_begun = ExitCode.RUN_AGAIN if extra == "trainer" else 0

    def run() -> None:
        _end_when_told(nothing_begun)
        try:
            with standard_output():
                import_module(module).main()
        except ModuleNotFoundError as missing:
            if (missing.name or "").startswith("diffusion_"):
                raise
            sys.exit(f"Error: {name} needs {missing.name}: pip install 'diffusion-operator[{extra}]'")

    return run


def _end_when_told(code: int) -> None:
    """As process 1 of a container, end with `code` on a SIGTERM that comes before the command has its own handler.

    The kernel has no default action for process 1: the signal would be lost, and the pod stay until its grace is over.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(code))


@contextmanager
def standard_output() -> Iterator[None]:
    """Say in one line that standard output takes no more (a full disk), and nothing where its reader has gone."""
    more = ""
    try:
        yield
    except OSError:
        more = ONE_MORE_LINE
        raise
    finally:
        if broken := refusal_of_output(more):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is written at the exit
            silent = isinstance(broken, BrokenPipeError)
            sys.exit(1 if silent else f"Error: standard output cannot be written: {broken.strerror}")


def refusal_of_output(more: str = ONE_MORE_LINE) -> OSError | None:
    """Why what was printed, and `more`, cannot be written; None where it was, or where nobody listens at all."""
    try:
        if sys.stdout is not None:
            sys.stdout.write(more)
            sys.stdout.flush()
    except OSError as error:
        return error
    return None


diffusion_operator = _script("diffusion-operator")
kubectl_diffusion = _script("kubectl-diffusion")
diffusion_local = _script("diffusion-local")
diffusion_trainer = _script("diffusion-trainer")
diffusion_server = _script("diffusion-server")
diffusion_router = _script("diffusion-router")
