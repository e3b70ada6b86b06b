"""A cluster for whoever asks for one by name: its programs, then the cluster itself, told on the terminal."""

from collections.abc import Collection, Mapping
from typing import Any

from diffusion_local import launch
from diffusion_local.binaries.find import ensure
from diffusion_local.binaries.recipe import CLUSTER_PROGRAMS
from diffusion_local.cluster import Cluster
from diffusion_local.images import default_images
from diffusion_local.options import ClusterOptions
from diffusion_local.own_command import own_command
from diffusion_local.source_digest import own_code
from diffusion_local.state import StateFolder
from diffusion_local.terminal import reporting, say


def bring_up(
    name: str, wanted: Mapping[str, Any], chosen: Collection[str], *, owned: bool, renewed: bool = False
) -> Cluster:
    """Join the cluster called `name`, or start it with the fields `wanted` of ClusterOptions, and wait until it is up.

    One that runs must agree in the fields `chosen`. `owned`: a new one dies with the calling thread. `renewed`: one of
    this environment that was started from other code than lies here by now is ended and started anew. Raises
    LocalClusterError when this machine cannot run it, when the one that runs is another one, or when it does not come
    up.
    """
    folder = StateFolder.of(name)
    launch.check_machine()
    with reporting("getting the control plane's programs") as report:
        programs = ensure(CLUSTER_PROGRAMS, report)
    options = ClusterOptions(name=name, programs=programs, images=default_images(), code=own_code(), **wanted)
    with reporting(f"starting the cluster {name!r}", "6 to 10 s") as report:
        cluster, new = Cluster.join_or_start(folder, options, chosen, owned=owned, renewed=renewed, say=report)
    if not new:
        say(f"the cluster {name!r} is up already; `{own_command(name)} down` ends it")
        if cluster.options.code != options.code:
            say("it runs other code than lies here by now: end it and start it again to have that run")
    return cluster
