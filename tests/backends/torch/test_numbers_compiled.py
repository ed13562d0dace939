"""Numbers under torch.compile and torch.export: NumPy scalars, constant and changing floats, and ``tensor.item()``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import fastgen_rf as rf
from fastgen_rf.backends._torch import TorchBackend

CFG = rf.SampleTimestepConfig(time_dist_type="logitnormal")
STEPS = np.linspace(1.0, 0.0, 5)
X, Y, T = torch.randn(3, 4), torch.randn(3, 4), torch.rand(3)
VIDEO = torch.zeros(3, 5, 2)
SINGLE, DOUBLE, INTEGER = np.float32(0.3), np.float64(4.0), np.int64(2)

since_2_8 = pytest.mark.skipif(torch.__version__ < "2.8", reason="before torch 2.8 no comparison can be left open")
since_2_11 = pytest.mark.skipif(torch.__version__ < "2.11", reason="torch 2.8 captures no item in fullgraph")


def compiled(call: Any, *args: Any, fullgraph: bool = True) -> Any:
    torch._dynamo.reset()
    torch.manual_seed(0)
    return torch.compile(call, fullgraph=fullgraph, backend="eager")(*args)


def exported(call: Any, *args: Any) -> Any:
    class Module(torch.nn.Module):
        def forward(self, *inputs: Any) -> Any:
            return call(*inputs)

    return torch.export.export(Module(), args, strict=True).module()(*args)


def eager(call: Any, *args: Any) -> Any:
    torch.manual_seed(0)
    return call(*args)


def assert_equal(actual: Any, expected: Any) -> None:
    assert type(actual) is type(expected)
    if isinstance(expected, tuple):
        assert len(actual) == len(expected)
        for ours, wanted in zip(actual, expected, strict=True):
            assert_equal(ours, wanted)
    elif isinstance(expected, torch.Tensor):
        assert actual.dtype == expected.dtype
        assert torch.equal(actual, expected)
    else:
        assert actual == expected


# NumPy scalars

WITH_SCALARS = {
    "t and t_next": lambda: rf.flow_step(X, Y, STEPS[0], STEPS[1]),
    "t of float16": lambda: rf.add_noise(X, Y, np.float16(0.3)),
    "t of float32": lambda: rf.ode_step(X, Y, T, SINGLE),
    "t alone": lambda: (rf.rf_alpha(STEPS[1]), rf.rf_sigma(DOUBLE / 8)),
    "a loop": lambda: loop(STEPS),
    "time": lambda: rf.convert_time(DOUBLE, source="sigma", target="log_snr"),
    "an int as time": lambda: rf.convert_time(INTEGER, source="sigma", target="rf"),
    "pi/2 of float32": lambda: rf.convert_time(np.float32(np.pi / 2), source="angle", target="rf"),
    "u": lambda: rf.timestep_quantile(np.float64(0.3), CFG),
    "n": lambda: rf.sample_timesteps((INTEGER, 3), CFG, xp=torch),
    "equal": lambda: rf.sample_timestep_pairs(4, CFG, equal=STEPS[2], xp=torch),
    "shift": lambda: rf.shift_timesteps(T, DOUBLE),
    "axes": lambda: rf.expand_like(torch.ones(3, 2), VIDEO, axes=(0, INTEGER)),
    "steps": lambda: rf.make_t_list(INTEGER, shift=DOUBLE, max_t=np.float64(0.9)),
    "tokens": lambda: rf.resolution_shift(INTEGER),
}
# Dynamo makes no Python number of an integer array that it made itself, and knows no element's value.
OPEN_IN_ONE_GRAPH = {
    "n of a shape": lambda: rf.sample_timesteps(np.prod(X.shape), CFG, xp=torch),
    "tokens of a shape": lambda: rf.resolution_shift(np.prod(X.shape)),
    "an element as time": lambda: rf.convert_time(STEPS[1], source="rf", target="log_snr"),
    "an element as shift": lambda: rf.shift_timesteps(T, 4 * STEPS[1]),
    "an element as density's t": lambda: rf.timestep_density(STEPS[1], CFG),
    "axes of an array": lambda: rf.expand_like(torch.ones(3, 2), VIDEO, axes=tuple(np.arange(0, 3, 2))),
    "fields of a config": lambda: rf.sample_timesteps(
        4, rf.SampleTimestepConfig(shift=np.float32(3), min_t=STEPS[3] / 10, p_std=np.float64(1.5)), xp=torch
    ),
    "t_list": lambda: rf.sample_from_t_list(4, list(STEPS), xp=torch),
}


def loop(times: Any) -> torch.Tensor:
    x = Y
    for now, then in zip(times, times[1:]):  # noqa: B905, RUF007  # as in README
        x = rf.flow_step(X, x, now, then)
    return x


@pytest.mark.parametrize("name", [*WITH_SCALARS, *OPEN_IN_ONE_GRAPH])
def test_a_numpy_scalar_is_a_number_under_the_compiler(name: str) -> None:
    call = (WITH_SCALARS | OPEN_IN_ONE_GRAPH)[name]
    assert_equal(compiled(call, fullgraph=False), eager(call))


@since_2_11
@pytest.mark.parametrize("name", WITH_SCALARS)
def test_a_numpy_scalar_is_a_number_in_one_graph(name: str) -> None:
    assert_equal(compiled(WITH_SCALARS[name]), eager(WITH_SCALARS[name]))


@pytest.mark.parametrize("t", [np.float64(1.5), np.int64(500)], ids=repr)
def test_a_numpy_scalar_out_of_range_is_an_error_under_the_compiler(t: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^t must "):
        compiled(lambda: rf.add_noise(X, Y, t), fullgraph=False)


# Constant floats


def sample_as_in_the_readme(x: torch.Tensor) -> torch.Tensor:
    t_list = rf.make_t_list(4, shift=5.0)
    for now, then in zip(t_list, t_list[1:]):  # noqa: B905, RUF007  # as in README
        x = rf.flow_step(torch.sin(x), x, now, then)
    return x


def functions_of_constants(x: torch.Tensor) -> tuple[Any, ...]:
    return (
        x * rf.convert_time(4.0, source="sigma", target="rf"),
        rf.convert_time(0.3, source="rf", target="log_snr"),
        rf.timestep_quantile(0.3, CFG),
        rf.timestep_quantile(0.3, rf.SampleTimestepConfig(time_dist_type="mode", mode_scale=0.5)),
        rf.timestep_density(0.3, CFG),
        rf.make_t_list(3, shift=2.0),
        rf.resolution_shift(1024),
        rf.shift_timesteps(0.3, 3.0),
    )


@pytest.mark.parametrize("call", [sample_as_in_the_readme, functions_of_constants])
def test_functions_of_constant_floats_compile_in_one_graph_and_export(call: Any) -> None:
    assert_equal(compiled(call, X), call(X))
    assert_equal(exported(call, X), call(X))


# Floats that change


@pytest.mark.parametrize(
    "call",
    [
        lambda x, a: x * rf.convert_time(a, source="sigma", target="log_snr"),
        lambda x, a: x * rf.timestep_quantile(a / 8, CFG),
        lambda x, a: x * rf.make_t_list(int(2 * a), shift=a)[1],
        lambda x, a: rf.shift_timesteps(x.abs() / 8, a),
    ],
)
def test_a_float_that_changes_compiles_again_and_is_never_the_old_one(call: Any) -> None:
    torch._dynamo.reset()
    again = torch.compile(call, fullgraph=True, backend="eager")
    for value in (3.0, 2.5, 4.0):
        assert_equal(again(X, value), call(X, value))


@pytest.mark.parametrize("call", [rf.x0_to_eps, lambda x, y, t: rf.ode_step(x, y, t, 0.1)])
def test_without_float64_a_float_that_changes_gives_the_eager_bits(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TorchBackend, "has_float64", lambda self, device: False)
    torch._dynamo.reset()
    again = torch.compile(call, fullgraph=True, backend="aot_eager")
    for value in (0.3, 0.5, 0.7):
        assert_equal(again(X, Y, value), call(X, Y, value))


# Numbers of tensors, whose values are open until the call

WITH_ITEMS = {
    "add_noise": lambda x, t: rf.add_noise(x, x, t.item()),
    "flow_step": lambda x, t: rf.flow_step(x, x, t.item(), t.item() / 2),
    "ode_step": lambda x, t: rf.ode_step(x, x, t.item(), torch.full((3,), 0.2)),
    "v_vp": lambda x, t: rf.convert_prediction(x, x, t.item(), source="x0", target="v_vp"),
    "rf_alpha": lambda x, t: x * rf.rf_alpha(t.item()),
    "shift_timesteps": lambda x, t: x * rf.shift_timesteps(t.item(), 3.0),
}


@since_2_8
@pytest.mark.parametrize("name", WITH_ITEMS)
def test_the_item_of_a_tensor_is_a_time_in_one_graph_and_exports(name: str) -> None:
    call = WITH_ITEMS[name]
    torch._dynamo.reset()
    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        again = torch.compile(call, fullgraph=True, backend="eager")
        for value in (0.25, 0.75):
            assert_equal(again(X, torch.tensor(value)), call(X, torch.tensor(value)))
    assert_equal(exported(call, X, torch.tensor(0.3)), call(X, torch.tensor(0.3)))
