"""A cluster for as long as a block lasts: for tests and measurements."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusion_local.binaries.find import ensure
from diffusion_local.binaries.recipe import CLUSTER_PROGRAMS
from diffusion_local.cluster import Cluster
from diffusion_local.images import default_images
from diffusion_local.options import ClusterOptions
from diffusion_local.state import StateFolder


@contextmanager
def throwaway_cluster(*, nodes: int, spot: int = 0, **options: Any) -> Iterator[Cluster]:
    """A cluster in a temporary folder; it dies with this process, whatever ends that, and leaves nothing behind.

    `options` are further fields of ClusterOptions. Raises LocalClusterError when it does not come up.
    """
    programs = ensure(CLUSTER_PROGRAMS, print)
    wanted = ClusterOptions(nodes=nodes, spot=spot, programs=programs, images=default_images(), **options)
    with tempfile.TemporaryDirectory(prefix="diffusion-local-") as folder:
        cluster = Cluster.start(StateFolder(Path(folder) / "c"), wanted, owned=True)
        try:
            yield cluster
        finally:
            cluster.stop()
