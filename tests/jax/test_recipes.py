"""JAX, the recipe of a training step: on eight devices it takes the steps that it takes on one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastgen_rf

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "train.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
REPORT = """
placed = {x.sharding.num_devices for x in jax.tree.leaves((x0, params, state))}
t = jax.jit(lambda key: sample_timesteps(16, cfg, rng=key, device=rows))(jax.random.key(0))
print(placed, t.sharding.num_devices, *(float(loss) for loss in losses))
"""


def losses_on(devices: int) -> list[float]:
    """The losses of the page's program, run where there are so many devices, all of which it uses."""
    (program,) = [block for block in BLOCKS if "optax" in block]
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    done = subprocess.run(
        [sys.executable, "-c", program + REPORT],
        env=os.environ | flags | {"PYTHONPATH": str(Path(fastgen_rf.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    placed, of_times, *losses = done.stdout.split()
    assert (placed, of_times) == (f"{{{devices}}}", str(devices))
    return [float(loss) for loss in losses]


@pytest.mark.undealt
def test_the_step_on_eight_devices_has_the_losses_of_one_device() -> None:
    on_one = losses_on(1)
    assert losses_on(8) == pytest.approx(on_one, rel=1e-6)
    assert len(set(on_one)) == 5
