"""The peer of our trainer: a plain DDP loop as people run it under torchrun, with the same network and batch.

Writes one JSON line for each optimizer step, with the wall-clock time: the driver reads there when training goes on.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from diffusion_contract.run_config import DenoiserSpec, ModelSpec
from diffusion_core.denoisers import build_denoiser

BATCH = 32


def main(log: str) -> None:
    """Train for ever on random samples; each process appends to its own file `LOG.<agent>`."""
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    network = DistributedDataParallel(build_denoiser(ModelSpec(denoiser=DenoiserSpec(sample_size=8))))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    with Path(f"{log}.{os.environ['PEER_NAME']}").open("a", buffering=1) as lines:
        step = 0
        while True:
            noisy = torch.randn(BATCH, 1, 8, 8)
            loss = network(noisy, torch.rand(BATCH) * 1000, None).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            line = {"time": time.time(), "step": step, "world": dist.get_world_size(), "pid": os.getpid()}
            lines.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
