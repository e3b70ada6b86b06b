"""The console scripts. Each imports its command when it is called: a missing extra is a line that names it."""

import sys
from collections.abc import Callable
from importlib import import_module

SCRIPTS = {
    "diffusion-operator": ("diffusion_operator.cli.operator_command", "operator"),
    "kubectl-diffusion": ("diffusion_operator.cli.kubectl_plugin", "operator"),
    "diffusion-local": ("diffusion_local.command", "local"),
    "diffusion-trainer": ("diffusion_trainer.command", "trainer"),
    "diffusion-server": ("diffusion_server.command", "server"),
    "diffusion-router": ("diffusion_router.command", "router"),
}
"""By its name: the module whose `main` it is, and the extra of the distribution that has all it imports."""


def _script(name: str) -> Callable[[], None]:
    module, extra = SCRIPTS[name]

    def run() -> None:
        try:
            import_module(module).main()
        except ModuleNotFoundError as missing:
            if (missing.name or "").startswith("diffusion_"):
                raise
            sys.exit(f"Error: {name} needs {missing.name}: pip install 'diffusion-operator[{extra}]'")

    return run


diffusion_operator = _script("diffusion-operator")
kubectl_diffusion = _script("kubectl-diffusion")
diffusion_local = _script("diffusion-local")
diffusion_trainer = _script("diffusion-trainer")
diffusion_server = _script("diffusion-server")
diffusion_router = _script("diffusion-router")
