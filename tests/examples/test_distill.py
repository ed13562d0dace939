"""The two programs that distill: one network and one training in JAX and PyTorch."""

from __future__ import annotations

import re
import sys
from functools import partialmethod
from pathlib import Path

import distill_digits
import distill_digits_torch
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from distill_digits_torch import Network, generate, noised, random_labels, read_settings, train
from torch import Generator, nn

PROGRAMS = Path(distill_digits_torch.__file__).parent
SETTINGS = read_settings(PROGRAMS / "dmd2_digits.yaml")


# Settings


def test_the_settings_are_those_of_the_jax_program():
    times = SETTINGS.times
    assert times.t_list == distill_digits.STUDENT_T_LIST
    assert (times.time_dist_type, times.min_t, times.max_t, times.p_mean, times.p_std) == (
        "logitnormal",
        *(getattr(distill_digits.LOGIT_NORMAL, name) for name in ("min_t", "max_t", "p_mean", "p_std")),
    )
    assert SETTINGS.fake_steps == distill_digits.FAKE_STEPS
    assert distill_digits_torch.STEPS == distill_digits.STEPS
    assert distill_digits_torch.SMALL_STEPS == distill_digits.SMALL_STEPS


@pytest.mark.parametrize(
    ("written", "instead", "message"),
    [
        ("\npred_type: flow", "\npred_type: x0", "pred_type must be 'flow' here, got 'x0'"),
        ("guidance_scale: ", "guidance_scale: 5.0", "guidance_scale must be None here, got 5.0"),
        ("student_sample_steps: 2", "student_sample_steps: 4", "t_list must have student_sample_steps + 1 = 5 entries"),
        ("t_list: [0.999", "t_list: [1.999", "t_list must be strictly decreasing, start at <= 1"),
    ],
)
def test_settings_that_the_program_does_not_support_are_rejected(tmp_path, written, instead, message):
    text = (PROGRAMS / "dmd2_digits.yaml").read_text()
    assert text.count(written) == 1
    (tmp_path / "other.yaml").write_text(text.replace(written, instead))
    with pytest.raises(ValueError, match=re.escape(message)):
        read_settings(tmp_path / "other.yaml")


# One network in two frameworks


@pytest.fixture(scope="module")
def networks():
    """A JAX network without zeros, and PyTorch's with the same parameters."""
    drawn = distill_digits.init_network(jax.random.key(0))
    leaves, tree = jax.tree.flatten(drawn)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    params = tree.unflatten([x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)])
    network = Network(len(distill_digits.STUDENT_T_LIST) - 1, Generator())
    trunk = params["residual"]
    layers = {"time": params["time"], "input": trunk["input"], "condition": trunk["condition"]}
    layers["output"] = trunk["output"]
    for i, block in enumerate(trunk["blocks"]):
        layers |= {f"ups.{i}": block["up"], f"downs.{i}": block["down"], f"modulations.{i}": block["modulation"]}
    state = {
        "label.weight": params["label"],
        "start.weight": params["start"],
        "frequencies": distill_digits.FREQUENCIES,
    }
    for name, layer in layers.items():
        state |= {f"{name}.weight": layer["w"].T, f"{name}.bias": layer["b"]}
    network.load_state_dict({name: torch.from_numpy(np.array(x)) for name, x in state.items()})
    return params, network


def inputs():
    rng = np.random.default_rng(0)
    x_t, target = rng.standard_normal((2, 32, 64), dtype=np.float32)
    return x_t, rng.random(32, dtype=np.float32), rng.integers(10, size=32), rng.integers(2, size=32), target


def test_both_have_the_same_predictions_and_gradients(networks):
    params, network = networks
    x_t, t, label, start, target = inputs()
    arguments = [jnp.asarray(x) for x in (x_t, t, label, start)]
    found = network(*map(torch.from_numpy, (x_t, t, label, start)))
    expected = distill_digits.velocity(params, *arguments)
    np.testing.assert_allclose(found.detach(), expected, rtol=0, atol=2e-4 * float(jnp.std(expected)))
    gradients = jax.grad(lambda params: jnp.mean((distill_digits.velocity(params, *arguments) - target) ** 2))(params)
    torch.mean((found - torch.from_numpy(target)) ** 2).backward()
    for ours, wanted in (
        (network.input.weight.grad.T, gradients["residual"]["input"]["w"]),
        (network.time.weight.grad.T, gradients["time"]["w"]),
        (network.start.weight.grad, gradients["start"]),
        (network.ups[0].bias.grad, gradients["residual"]["blocks"][0]["up"]["b"]),
    ):
        np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-3 * float(jnp.max(jnp.abs(wanted))))


# Compiler, bfloat16


def parameters(compiled):
    """The student's parameters after a few steps."""
    _, student = train(SETTINGS, (4, 3), compiled, 0)
    return torch.cat([parameter.detach().ravel() for parameter in student.parameters()])


@pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?` is deprecated:DeprecationWarning")  # its compiler's
def test_a_compiled_program_trains_as_an_eager_one_does(monkeypatch):
    # A program can get the graphs wrong. Kernels of inductor would take 45 s and have no call of the program.
    monkeypatch.setattr(Network, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    eager, start = parameters(False), Network(2, Generator().manual_seed(0))
    untrained = torch.cat([parameter.detach().ravel() for parameter in start.parameters()])
    moved = torch.linalg.vector_norm(eager - untrained)
    assert torch.linalg.vector_norm(parameters(True) - eager) < 0.05 * moved


def test_the_training_data_are_bfloat16():
    rng = Generator().manual_seed(0)
    sample, _ = generate(Network(2, Generator()), random_labels(rng), SETTINGS, rng)
    x_t, _, eps = noised(sample, SETTINGS.times, rng)
    assert {sample.dtype, x_t.dtype, eps.dtype} == {torch.bfloat16}


# The programs


def metrics(printed):
    """The table of a program: Frechet distance, accuracy and variance of each generator."""
    rows = re.findall(r"^((?:teacher|student), \d+ steps) +([\d.]+) +([\d.]+) +([\d.]+)$", printed, re.MULTILINE)
    assert len(rows) == 3
    return {name: tuple(map(float, row)) for name, *row in rows}


def test_both_programs_meet_their_bounds_and_agree_in_a_reduced_size(start):
    ours = metrics(start("distill_digits_torch.py", "--small", "--eager"))
    theirs = metrics(start("distill_digits.py", "--small"))
    for name in theirs:  # with seeds 0, 1 and 2 of both, any two differ by 10 %, 0.013 and 0.027 at most
        assert abs(np.log(ours[name][0] / theirs[name][0])) < 0.15
        assert abs(ours[name][1] - theirs[name][1]) < 0.02
        assert abs(ours[name][2] - theirs[name][2]) < 0.06


def test_the_jax_program_fails_if_nothing_is_learned(monkeypatch, tmp_path):
    monkeypatch.setattr(
        distill_digits, "train_teacher", lambda images, labels, key, steps: distill_digits.init_network(key)
    )
    monkeypatch.setattr(distill_digits, "distill", lambda teacher, key, steps: teacher)
    monkeypatch.setattr(sys, "argv", ["distill_digits.py", "--small", "--out", str(tmp_path / "digits.png")])
    assert distill_digits.main() == 1


def test_the_torch_program_fails_if_nothing_is_learned(monkeypatch, tmp_path):
    monkeypatch.setattr(distill_digits_torch, "SMALL_STEPS", (9, 9))
    monkeypatch.setattr(
        sys, "argv", ["distill_digits_torch.py", "--small", "--eager", "--out", str(tmp_path / "digits.png")]
    )
    assert distill_digits_torch.main() == 1
