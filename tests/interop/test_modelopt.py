"""Parity with nvidia-modelopt: the five conversions bit for bit, their gradients, and its configs as ours."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor

import fastgen_rf as rf
from fastgen_rf import flow_matching as ours
from tests.cases.names import every_published_law
from tests.interop.modelopt_fastgen import fastgen, utils
from tests.interop.modelopt_fastgen import flow_matching as theirs

CONVERSIONS = ("add_noise", "pred_noise_to_pred_x0", "pred_x0_from_flow", "x0_to_eps", "x0_to_flow")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
SMALL = (4, 3, 5, 7)
SETTINGS = Path(__file__).parents[2] / "docs" / "examples" / "dmd2_digits.yaml"
LARGE = (4, 16, 72, 80)  # 368,640 elements: more than any block that fits a cache

every_conversion = pytest.mark.parametrize("name", CONVERSIONS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def randn(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def times(n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Times from 0 to 1, both included."""
    return torch.linspace(0, 1, n, dtype=torch.float64).to(dtype)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "strided": lambda x: torch.stack([x, x], -1).flatten(-2)[..., ::2],
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "permuted": lambda x: x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
    "expanded": lambda x: x[:1].expand(x.shape),
}


def assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    """Equal in dtype, shape, strides and every bit, the sign of zero included."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.stride() == expected.stride()
    integer = {8: torch.int64, 4: torch.int32, 2: torch.int16}[expected.dtype.itemsize]
    assert torch.equal(actual.view(integer), expected.view(integer))


@every_conversion
@every_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("t_dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
def test_bits_and_strides_are_modelopt_s(
    name: str, dtype: torch.dtype, layout: str, t_dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    first, second = (LAYOUTS[layout](randn(*shape, dtype=dtype, seed=seed)) for seed in (1, 2))
    arguments = first, second, times(4, t_dtype)
    assert_same_bits(getattr(ours, name)(*arguments), getattr(theirs, name)(*arguments))


@every_conversion
@every_dtype
@pytest.mark.parametrize("other_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("other_layout", LAYOUTS)
def test_mixed_dtypes_and_layouts_give_modelopt_s_bits_and_strides(
    name: str, dtype: torch.dtype, other_dtype: torch.dtype, other_layout: str
) -> None:
    first = randn(*SMALL, dtype=dtype, seed=1)
    second = LAYOUTS[other_layout](randn(*SMALL, dtype=other_dtype, seed=2))
    arguments = first, second, times(4)
    assert_same_bits(getattr(ours, name)(*arguments), getattr(theirs, name)(*arguments))


@every_conversion
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "shape", [(1,), (4,), (0, 3), (4, 1, 8, 8), (2, 3, 1, 4, 5), (1, 400_001), (50_000, 7), (2, 8, 11, 42, 52)], ids=str
)
def test_every_shape_gives_modelopt_s_bits(name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    arguments = randn(*shape, dtype=dtype, seed=1), randn(*shape, dtype=dtype, seed=2), times(shape[0])
    assert_same_bits(getattr(ours, name)(*arguments), getattr(theirs, name)(*arguments))


@every_conversion
@pytest.mark.parametrize("t_shape", [(), (1,), (4, 3), (4, 1, 1, 1)], ids=str)
def test_t_of_other_shapes_gives_modelopt_s_bits(name: str, t_shape: tuple[int, ...]) -> None:
    t = torch.rand(t_shape, generator=torch.Generator().manual_seed(3))
    arguments = randn(*SMALL, dtype=torch.float32, seed=1), randn(*SMALL, dtype=torch.float32, seed=2), t
    assert_same_bits(getattr(ours, name)(*arguments), getattr(theirs, name)(*arguments))


@pytest.mark.parametrize("name", ["rf_alpha", "rf_sigma"])
@every_dtype
def test_the_coefficients_are_modelopt_s(name: str, dtype: torch.dtype) -> None:
    t = times(1001, dtype)
    assert_same_bits(getattr(ours, name)(t), getattr(theirs, name)(t))


def test_expand_like_appends_axes_as_modelopt_s_does() -> None:
    t, latent = times(4), torch.zeros(SMALL)
    assert_same_bits(rf.expand_like(t, latent), utils.expand_like(t, latent))


@every_conversion
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
def test_gradients_for_the_arrays_are_modelopt_s_bits(
    name: str, dtype: torch.dtype, layout: str, shape: tuple[int, ...]
) -> None:
    upstream = LAYOUTS[layout](randn(*shape, dtype=dtype, seed=3))

    def gradients(module: Any) -> tuple[Tensor, ...]:
        leaves = [LAYOUTS[layout](randn(*shape, dtype=dtype, seed=seed)).requires_grad_() for seed in (1, 2)]
        return torch.autograd.grad(getattr(module, name)(*leaves, times(4)), leaves, upstream)

    for actual, expected in zip(gradients(ours), gradients(theirs), strict=True):
        assert_same_bits(actual + 0.0, expected + 0.0)  # the sign of a zero gradient is nobody's promise


@every_conversion
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
def test_gradients_for_t_are_modelopt_s_within_one_ulp(name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    upstream = randn(*shape, dtype=dtype, seed=3)

    def gradient(module: Any) -> Tensor:
        arrays = randn(*shape, dtype=dtype, seed=1), randn(*shape, dtype=dtype, seed=2)
        t = times(4).requires_grad_()
        return torch.autograd.grad(getattr(module, name)(*arrays, t), t, upstream)[0]

    actual, expected = gradient(ours), gradient(theirs)
    assert actual.dtype == expected.dtype == torch.float32
    above, below = (torch.nextafter(expected, torch.full_like(expected, end)) for end in (torch.inf, -torch.inf))
    assert ((below <= actual) & (actual <= above)).all()


# The names and the signatures


def test_our_module_has_every_name_of_modelopt_s() -> None:
    assert set(theirs.__all__) <= set(ours.__all__)


@pytest.mark.parametrize("name", sorted(theirs.__all__))
def test_arguments_have_modelopt_s_names_and_order(name: str) -> None:
    def parameters(function: Any) -> dict[str, Any]:
        return {p.name: p.kind for p in inspect.signature(function).parameters.values()}

    expected = parameters(getattr(theirs, name))
    actual = parameters(getattr(ours, name))
    assert expected.items() <= actual.items()
    positional = [p for p, kind in expected.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert list(actual)[: len(positional)] == positional


# The samplers


@every_published_law
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_modelopt_s_config_and_call_serve_our_sampler(law: str, dtype: torch.dtype) -> None:
    cfg = fastgen.SampleTimestepConfig(time_dist_type=law, min_t=0.02, max_t=0.98, shift=3.0, p_mean=-0.5, p_std=0.8)
    own = rf.SampleTimestepConfig(law, min_t=0.02, max_t=0.98, shift=3.0, p_mean=-0.5, p_std=0.8)
    torch.manual_seed(0)
    actual = ours.sample_timesteps(1000, cfg, device=torch.device("cpu"), dtype=dtype)
    torch.manual_seed(0)
    assert torch.equal(actual, ours.sample_timesteps(1000, own, device=torch.device("cpu"), dtype=dtype))
    assert (actual.dtype, actual.shape) == (dtype, (1000,))
    assert actual.double().min() >= cfg.min_t
    assert actual.double().max() <= cfg.max_t


def test_our_config_begins_with_the_same_fields_and_defaults() -> None:
    theirs = fastgen.SampleTimestepConfig().model_dump()
    assert list(vars(rf.SampleTimestepConfig()).items())[: len(theirs)] == list(theirs.items())


def test_modelopt_reads_the_settings_of_our_example() -> None:
    theirs = fastgen.load_dmd_config(SETTINGS)  # refuses a field that it does not know
    assert (theirs.pred_type, theirs.student_sample_steps, theirs.backward_simulation) == ("flow", 2, True)
    assert theirs.ema is not None
    assert theirs.ema.decay == 0.99
    assert theirs.sample_t_cfg.t_list == [0.999, 0.4995, 0.0]
    drawn = [
        rf.sample_timesteps(1000, cfg, rng=0, xp=torch)
        for cfg in (theirs.sample_t_cfg, rf.SampleTimestepConfig("logitnormal"))
    ]
    assert torch.equal(*drawn)


@every_published_law
def test_both_samplers_follow_one_law(law: str) -> None:
    cfg = fastgen.SampleTimestepConfig(time_dist_type=law)
    torch.manual_seed(0)
    samples = [module.sample_timesteps(20_000, cfg, device=torch.device("cpu")) for module in (ours, theirs)]
    assert ks_2samp(*(x.numpy() for x in samples)).pvalue > 1e-3


def test_both_rung_samplers_draw_the_same_rungs() -> None:
    rungs = [0.999, 0.75, 0.5, 0.25, 0.0]
    torch.manual_seed(0)
    actual, expected = (
        module.sample_from_t_list(4000, rungs, device=torch.device("cpu"), dtype=torch.float32)
        for module in (ours, theirs)
    )
    assert set(actual.tolist()) == set(expected.tolist())
    shares = [(actual == rung).double().mean().item() for rung in set(expected.tolist())]
    assert shares == pytest.approx([0.25] * 4, abs=0.03)
