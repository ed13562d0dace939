"""PyTorch, the recipes over several processes: they train as one process does, and go on from a checkpoint."""

from __future__ import annotations

import os
import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

import fastgen_rf as rf

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def on_two_ranks(script: str, *options: str) -> str:
    """What rank 0 prints of a script that runs in two processes, joined by gloo."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    package = str(Path(rf.__file__).parents[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    hidden = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": package}
    processes = [
        subprocess.Popen(
            [sys.executable, str(EXAMPLES / script), *options],
            env=os.environ | shared | hidden | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        printed = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, text in zip(processes, printed, strict=True):
        assert process.returncode == 0, text
    return printed[0]


def test_ddp_on_two_ranks_goes_on_from_a_single_process_s_checkpoint_as_that_process_does(tmp_path: Path) -> None:
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
    assert "step 4" in on_two_ranks("train_ddp.py", *options)
    saved = torch.load(tmp_path / "run.pt")
    assert torch.equal(saved["rng"], rng.get_state())
    for name, value in module.state_dict().items():
        torch.testing.assert_close(saved["module"][name], value, rtol=1e-5, atol=1e-6)


def test_fsdp_on_two_ranks_has_the_losses_of_one_process_and_dtensors_keep_their_placement() -> None:
    printed = on_two_ranks("train_fsdp.py")
    assert "(Shard(dim=0),) and the same bits: True" in printed

    batch, features = 16, 64
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(features + 1, 256), nn.SiLU(), nn.Linear(256, features))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(5):
        x0, eps = torch.randn(2, batch, features, generator=rng)
        t = rf.sample_timesteps(batch, rf.SampleTimestepConfig("logitnormal"), rng=rng, stratified=True)
        flow = network(torch.cat([rf.add_noise(x0, eps, t), t[:, None]], 1))
        loss = (flow - (eps - x0)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    (found,) = re.findall(r"loss ([\d.]+);", printed)
    assert abs(float(found) - loss.item()) < 2e-3  # bfloat16 weights; another batch is some 0.1 away
