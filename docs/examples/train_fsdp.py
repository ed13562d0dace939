"""Train a flow with FSDP2, and add noise to latents that are DTensors.

    torchrun --nproc-per-node 2 train_fsdp.py

Only the parameters are sharded. The formulas receive activations, which are plain tensors with the rows of one rank.
Latents may also be DTensors: the result has their mesh and their placement.
"""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Shard, distribute_tensor

from fastgen_rf import SampleTimestepConfig, add_noise, sample_timesteps

BATCH, FEATURES = 16, 64
CFG = SampleTimestepConfig("logitnormal")


def main() -> None:
    """Train for five steps, and print the last loss."""
    cuda = torch.cuda.is_available()
    dist.init_process_group("nccl" if cuda else "gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    mesh = init_device_mesh("cuda" if cuda else "cpu", (world,))

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(FEATURES + 1, 256), nn.SiLU(), nn.Linear(256, FEATURES)).to(device)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in (network[0], network[2], network):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    rng = torch.Generator(device).manual_seed(0)  # The same on every rank.
    rows = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    for _ in range(5):
        x0, eps = torch.randn(2, BATCH, FEATURES, generator=rng, device=device)[:, rows]
        t = sample_timesteps(BATCH, CFG, rng=rng, stratified=True)[rows]
        x_t = add_noise(x0, eps, t)
        flow = network(torch.cat([x_t, t[:, None]], 1))  # bfloat16 because of the policy
        loss = (flow.float() - (eps - x0)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    # Add noise to DTensors, as code does that shards its activations itself.
    whole = torch.randn(2, BATCH, FEATURES, generator=rng, device=device)
    x0, eps = (distribute_tensor(x, mesh, [Shard(0)]) for x in whole)
    t = distribute_tensor(sample_timesteps(BATCH, CFG, rng=rng), mesh, [Shard(0)])
    x_t = add_noise(x0, eps, t)
    same = torch.equal(x_t.full_tensor(), add_noise(*whole, t.full_tensor()))

    dist.all_reduce(loss)
    if rank == 0:
        print(f"loss {loss.item() / world:.6f}; noised DTensors have {x_t.placements} and the same bits: {same}")
    if not cuda:
        # Wait until gloo has freed its tensors: a thread that frees them while Python exits aborts the process.
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
