"""PyTorch on many machines: DDP, FSDP2 and DTensor over processes train to the numbers of one process."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fastgen_rf as rf
from tests.cases import processes

BATCH, WIDTH, STEPS = 8, 6, 3
KINDS = ["DDP", "fully_shard", "DTensor"]
if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 12):
    KINDS.remove("fully_shard")  # 2.6 has it on CUDA alone


# What follows runs in the other processes too, as source text.


def make_model() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 16), nn.Tanh(), nn.Linear(16, WIDTH)).double()


def make_batch(step: int) -> list[Tensor]:
    """Data, noise and two times for each sample of a global batch."""
    generator = torch.Generator().manual_seed(step)
    x0, eps = (torch.randn(BATCH, WIDTH, generator=generator, dtype=torch.float64) for _ in range(2))
    t = rf.sample_timesteps(BATCH, rf.SampleTimestepConfig("shifted"), rng=step, xp=torch, dtype=torch.float64)
    return [x0, eps, t, 0.5 * t]


def loss_of(model: Any, x0: Any, eps: Any, t: Any, t_next: Any) -> Any:
    """Distance from the exact state of the step that a flow model takes; its gradient goes through each formula."""
    x_t = rf.add_noise(x0, eps, t)
    pred = rf.convert_prediction(model(x_t), x_t, t, source="flow", target="x0")
    step = rf.ode_step(pred, x_t, t, t_next)
    total = (step - rf.add_noise(x0, eps, t_next)).square().sum()
    return total / step.numel()  # gloo in torch 2.6 has no mean


def train(model: Any, batches: Any) -> tuple[list[Any], list[list[Any]]]:
    """Losses and gradients of a few steps of gradient descent, as the model has them."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses, gradients = [], []
    for batch in batches:
        optimizer.zero_grad()
        loss = loss_of(model, *batch)
        loss.backward()
        losses.append(loss.detach())
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        optimizer.step()
    return losses, gradients


SHARED = "\n\n".join(
    [
        """
import os
import sys
import time
from typing import Any
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
import fastgen_rf as rf
""",
        f"BATCH, WIDTH, STEPS = {BATCH}, {WIDTH}, {STEPS}",
        *map(inspect.getsource, (make_model, make_batch, loss_of, train)),
        """
rank, count, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
rows = slice(rank * BATCH // count, (rank + 1) * BATCH // count)


def save(name, losses, gradients):
    mean = torch.stack(losses) / count
    dist.all_reduce(mean)  # of what each process has on its rows
    for step, gradient in enumerate(gradients):
        arrays = {f"gradient {i}": getattr(g, "full_tensor", lambda g=g: g)().numpy() for i, g in enumerate(gradient)}
        np.savez(f"{folder}/{name}-{rank}-{step}.npz", loss=mean[step].numpy(), **arrays)
""",
    ]
)
RUNS = """
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_module, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

parts = [[x[rows] for x in make_batch(step)] for step in range(STEPS)]
save("DDP", *train(DistributedDataParallel(make_model()), parts))

mesh = init_device_mesh("cpu", (count,))
if "fully_shard" in sys.argv[4:]:
    sharded = make_model()
    for layer in (sharded[0], sharded[2], sharded):
        fully_shard(layer, mesh=mesh)
    assert all(isinstance(parameter, DTensor) for parameter in sharded.parameters())
    save("fully_shard", *train(sharded, parts))

batches = [[distribute_tensor(x, mesh, [Shard(0)]) for x in make_batch(step)] for step in range(STEPS)]
x_t = rf.add_noise(*batches[0][:3])
assert isinstance(x_t, DTensor) and x_t.placements == (Shard(0),)
assert torch.equal(x_t.to_local(), rf.add_noise(*parts[0][:3]))
losses, gradients = train(distribute_module(make_model(), mesh), batches)
save("DTensor", [loss.full_tensor() for loss in losses], gradients)

while not all(os.path.exists(f"{folder}/DTensor-{other}-{STEPS - 1}.npz") for other in range(count)):
    time.sleep(0.01)  # none leaves another waiting
os._exit(0)  # one in ten times a thread of torch's that is left ends an interpreter with an abort
"""


@pytest.fixture(scope="module", params=[2, 4])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """How many processes trained, and where each of them left its losses and gradients."""
    folder = tmp_path_factory.mktemp("trained")
    processes.run(SHARED + RUNS, request.param, folder, *KINDS)
    return request.param, folder


@pytest.mark.parametrize("name", KINDS)
def test_losses_and_gradients_of_a_training_run_are_one_process_s(name: str, trained: tuple[int, Path]) -> None:
    count, folder = trained
    losses, gradients = train(make_model(), map(make_batch, range(STEPS)))
    for step, rank in np.ndindex(STEPS, count):
        saved = np.load(folder / f"{name}-{rank}-{step}.npz")
        np.testing.assert_allclose(saved["loss"], losses[step].numpy(), rtol=1e-12)
        for i, gradient in enumerate(gradients[step]):
            np.testing.assert_allclose(saved[f"gradient {i}"], gradient.numpy(), rtol=1e-10, atol=1e-13)
