"""PyTorch in two processes: the recipes of the documentation."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

import fastgen_rf as rf
from tests import processes

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"

PROGRAM = """
import os, runpy, sys
rank, world, _, port, *command = sys.argv[1:]
os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
sys.argv = command
runpy.run_path(command[0], run_name="__main__")
"""


def on_two_ranks(folder: Path, program: Path, *arguments: str) -> str:
    """Run a program in two processes, joined by gloo, and return what rank 0 prints."""
    given = (str(processes.free_port()), str(program), *arguments)
    processes.run(PROGRAM, 2, folder, *given, seconds=240, CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1")
    return (folder / "output-0.txt").read_text()


def test_the_ddp_recipe_resumes_from_a_checkpoint_of_one_process(tmp_path: Path) -> None:
    names = runpy.run_path(str(EXAMPLES / "train_ddp.py"))
    data = torch.randn(256, *names["SHAPE"], generator=torch.Generator().manual_seed(1))
    rng = torch.Generator().manual_seed(0)
    module = names["FlowLoss"]()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    for step, x0 in enumerate(data.split(names["BATCH"])[:4]):
        if step == 2:
            state = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "rng": rng.get_state()}
            torch.save(state | {"step": step}, tmp_path / "run.pt")
        t = rf.sample_timesteps(len(x0), names["CFG"], rng=rng, stratified=True)
        eps = torch.randn(x0.shape, generator=rng)
        optimizer.zero_grad()
        module(x0, eps, t).backward()
        optimizer.step()

    options = ("--checkpoint", str(tmp_path / "run.pt"), "--steps", "2", "--compiler", "aot_eager")
    assert "step 4" in on_two_ranks(tmp_path, EXAMPLES / "train_ddp.py", *options)
    saved = torch.load(tmp_path / "run.pt")
    assert torch.equal(saved["rng"], rng.get_state())
    for name, value in module.state_dict().items():
        torch.testing.assert_close(saved["module"][name], value, rtol=1e-5, atol=1e-6)


def test_the_fsdp_recipe_trains(tmp_path: Path) -> None:
    printed = on_two_ranks(tmp_path, EXAMPLES / "train_fsdp.py")
    assert "(Shard(dim=0),) and the same bits: True" in printed
    (loss,) = re.findall(r"loss ([\d.]+);", printed)
    assert 0 < float(loss) < 3  # the variance of the flow is 2
