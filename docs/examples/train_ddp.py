"""Train a flow with DDP and torch.compile, on any number of ranks, and resume from a checkpoint.

    torchrun --nproc-per-node 2 train_ddp.py --checkpoint run.pt [--steps N]

Every rank samples the timesteps and the noise of the whole batch from a generator with the same state, and takes its
rows. So the batches are those of a single process, and a checkpoint contains the state of one generator.
"""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fastgen_rf import SampleTimestepConfig, add_noise, sample_timesteps

BATCH, SHAPE = 16, (4, 8, 8)
CFG = SampleTimestepConfig("logitnormal")


class FlowLoss(nn.Module):
    """A network and its loss, including add_noise, so that they compile to one graph."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(SHAPE[0] + 1, 32, 3, padding=1)
        self.outer = nn.Conv2d(32, SHAPE[0], 3, padding=1)

    def forward(self, x0: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error of the flow."""
        x_t = add_noise(x0, eps, t)
        time = t[:, None, None, None].expand(-1, 1, *SHAPE[1:])
        flow = self.outer(nn.functional.silu(self.inner(torch.cat([x_t, time], 1))))
        return (flow - (eps - x0)).square().mean()


def main() -> None:
    """Load the checkpoint if it exists, train for ``--steps`` steps, and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--compiler", default="inductor", help="torch.compile's backend")
    options = parser.parse_args()

    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    dist.init_process_group("nccl" if cuda else "gloo")
    share = BATCH // dist.get_world_size()
    rows = slice(dist.get_rank() * share, (dist.get_rank() + 1) * share)

    torch.manual_seed(0)
    module = FlowLoss().to(device)
    model = DistributedDataParallel(torch.compile(module, fullgraph=True, backend=options.compiler))
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    rng = torch.Generator(device).manual_seed(0)  # The same on every rank.
    first = 0
    if options.checkpoint.exists():
        saved = torch.load(options.checkpoint, map_location="cpu")  # The state of a generator must be on the CPU.
        module.load_state_dict(saved["module"])
        optimizer.load_state_dict(saved["optimizer"])
        rng.set_state(saved["rng"])
        first = saved["step"]

    data = torch.randn(256, *SHAPE, generator=torch.Generator().manual_seed(1))
    for step in range(first, first + options.steps):
        index = torch.arange(step * BATCH, (step + 1) * BATCH) % len(data)
        x0 = data[index[rows]].to(device)
        t = sample_timesteps(BATCH, CFG, rng=rng, stratified=True)[rows]
        eps = torch.randn(BATCH, *SHAPE, generator=rng, device=device)[rows]
        optimizer.zero_grad()
        loss = model(x0, eps, t)
        loss.backward()
        optimizer.step()

    if dist.get_rank() == 0:
        print(f"step {first + options.steps}: loss {loss.item():.4f} on the rows of rank 0")
        state = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "rng": rng.get_state()}
        torch.save(state | {"step": first + options.steps}, options.checkpoint)
    if not cuda:
        # Wait until gloo has freed its tensors: a thread that frees them while Python exits aborts the process.
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
