"""torch.compile and torch.export: values, sizes and numbers that are not known until the call, error messages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fastgen_rf as rf
from fastgen_rf._tracing import fixed, lies_in, shown
from tests.backends.torch.tensors import inputs
from tests.catalogue import CONFIGS

# torch's compiler still uses what torch deprecates itself.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?` is deprecated:DeprecationWarning")
since_2_8 = pytest.mark.skipif(torch.__version__ < "2.8", reason="before torch 2.8 no comparison can be left open")
since_2_11 = pytest.mark.skipif(torch.__version__ < "2.11", reason="Dynamo's exception showed no message in 2.8")
CFG = rf.SampleTimestepConfig("logitnormal")
STEPS = np.linspace(1.0, 0.0, 5)
X, Y, T = torch.randn(3, 4), torch.randn(3, 4), torch.rand(3)
DOUBLE, INTEGER = np.float64(4.0), np.int64(2)


@pytest.fixture(autouse=True)
def _without_compiled_code_of_other_tests() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled(call: Any, **options: Any) -> Any:
    return torch.compile(call, **({"fullgraph": True, "backend": "aot_eager"} | options))


class Module(torch.nn.Module):
    """A function as a module, which torch.export takes."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call = call

    def forward(self, *given: Any) -> Any:
        return self.call(*given)


def exported(call: Any, *given: Any, **options: Any) -> Any:
    return torch.export.export(Module(call), given, **options).module()


class Graphs:
    """A compiler backend that keeps the size of each graph it gets."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, module: Any, example: Any) -> Any:
        self.sizes.append(len(module.graph.nodes))
        return module


def assert_equal(actual: Any, expected: Any) -> None:
    assert type(actual) is type(expected)
    if isinstance(expected, (tuple, list)):
        for ours, wanted in zip(actual, expected, strict=True):
            assert_equal(ours, wanted)
    else:
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def assert_same_samples(sample: Any, call: Any, *given: Any) -> None:
    """Two functions draw the same from the global generator at one seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        ours = call(*given)
        torch.manual_seed(4)
        assert_equal(ours, sample(*given))


# Values and sizes


def test_one_compilation_is_enough_for_every_size() -> None:
    cfg = rf.SampleTimestepConfig("beta", truncate=True)

    def step(x: Tensor, y: Tensor, t: Tensor) -> tuple[Any, ...]:
        names: dict[str, Any] = {"device": x.device, "dtype": torch.bfloat16}
        return (
            rf.x0_to_eps(x, y, t),
            rf.sample_timesteps(x.shape[0], cfg, **names),
            *rf.sample_timestep_pairs(x.shape[:2], cfg, stratified=True, **names),
            *rf.sample_from_t_list(x.shape[0], (1.0, 0.75, 0.5, 0.0), return_index=True, **names),
        )

    graphs = Graphs()
    call = compiled(step, dynamic=True, backend=graphs)
    for shape in [(3, 5, 7), (5, 6, 9), (8, 4, 20_000)]:
        assert_same_samples(step, call, *inputs(shape))
    assert len(graphs.sizes) == 1


@pytest.mark.parametrize("strict", [True, False])
def test_a_module_that_samples_exports_with_a_dynamic_batch(strict: bool) -> None:
    def step(x: Tensor, y: Tensor) -> tuple[Any, Any]:
        cfg, n = rf.SampleTimestepConfig("lognormal"), x.shape[0]
        entries = rf.sample_from_t_list(n, (1.0, 0.5, 0.0), device=x.device)
        return rf.x0_to_eps(x, y, rf.sample_timesteps(n, cfg, device=x.device, stratified=True)), entries

    batch = {0: torch.export.Dim("batch", min=2, max=64)}
    program = exported(step, *inputs((8, 2))[:2], dynamic_shapes={"given": (batch, batch)}, strict=strict)
    assert_same_samples(step, program, *inputs((5, 2))[:2])


# Samplers


def test_every_distribution_compiles_to_the_eager_samples() -> None:
    tail = [rf.SampleTimestepConfig(c.time_dist_type, p_mean=5.0, p_std=0.1) for c in CONFIGS if not c.truncate]
    other = SimpleNamespace(**{name: getattr(tail[0], name) for name in tail[0].__dataclass_fields__})

    def sample() -> list[Any]:
        configs = (*CONFIGS, *tail, other, rf.SampleTimestepConfig("logitnormal"))
        return [rf.sample_timesteps(64, cfg, dtype=torch.float32) for cfg in configs]

    assert_same_samples(sample, compiled(sample))

    def from_config(cfg: Any) -> Any:
        return rf.sample_timesteps(8, cfg, xp=torch)

    fields = {**vars(rf.SampleTimestepConfig("beta"))}
    assert_same_samples(from_config, compiled(from_config, dynamic=True), SimpleNamespace(**fields))


def test_the_graph_does_not_grow_with_a_t_list() -> None:
    graphs = Graphs()
    for k in (4, 200):
        t_list = rf.make_t_list(k)

        def draw(t_list: Any = t_list) -> Any:
            return rf.sample_from_t_list(64, t_list, xp=torch, return_index=True)

        assert_same_samples(draw, compiled(draw, backend=graphs))
    assert graphs.sizes[0] == graphs.sizes[1]


# NumPy scalars


NUMPY_SCALARS = [
    lambda: rf.ode_step(X, Y, T, np.float32(0.3)),
    lambda: (rf.rf_alpha(STEPS[1]), rf.rf_sigma(DOUBLE / 8)),
    lambda: rf.convert_time(INTEGER, source="sigma", target="rf"),
    lambda: rf.timestep_quantile(np.float64(0.3), CFG),
    lambda: rf.sample_timestep_pairs(4, CFG, equal=STEPS[2], xp=torch),
    lambda: rf.shift_timesteps(T, DOUBLE),
    lambda: rf.expand_like(X, torch.zeros(3, 5, 4), axes=(0, INTEGER)),
    lambda: rf.make_t_list(INTEGER, shift=DOUBLE, max_t=np.float64(0.9)),
]


def elements_of_numpy_arrays() -> tuple[Any, ...]:
    """Dynamo makes no Python number of an integer array that it made itself, and knows no element's value."""
    config = rf.SampleTimestepConfig(shift=np.float32(3), min_t=STEPS[3] / 10, p_std=np.float64(1.5))
    return (
        rf.sample_timesteps(np.prod(X.shape), CFG, xp=torch),
        rf.convert_time(STEPS[1], source="rf", target="log_snr"),
        rf.shift_timesteps(T, 4 * STEPS[1]),
        rf.expand_like(X, torch.zeros(3, 5, 4), axes=tuple(np.arange(0, 3, 2))),
        rf.sample_timesteps(4, config, xp=torch),
        rf.sample_from_t_list(4, list(STEPS), xp=torch),
    )


@pytest.mark.parametrize("call", [*NUMPY_SCALARS, elements_of_numpy_arrays])
def test_a_numpy_scalar_is_a_number_under_the_compiler(call: Any) -> None:
    fullgraph = call is not elements_of_numpy_arrays and torch.__version__ >= "2.11"  # torch 2.8 captures no item
    assert_same_samples(call, compiled(call, fullgraph=fullgraph, backend="eager"))


# Python floats, constant and changing


def sample_as_in_the_readme(x: Tensor) -> Tensor:
    t_list = rf.make_t_list(4, shift=5.0)
    for now, then in zip(t_list, t_list[1:]):  # noqa: B905, RUF007  # as in README
        x = rf.flow_step(torch.sin(x), x, now, then)
    return x


def functions_of_constants(x: Tensor) -> tuple[Any, ...]:
    return (
        x * rf.convert_time(4.0, source="sigma", target="rf"),
        rf.convert_time(0.3, source="rf", target="log_snr"),
        rf.timestep_quantile(0.3, rf.SampleTimestepConfig(time_dist_type="mode", mode_scale=0.5)),
        rf.timestep_density(0.3, CFG),
        rf.make_t_list(3, shift=2.0),
        rf.resolution_shift(1024),
        rf.shift_timesteps(0.3, 3.0),
    )


@pytest.mark.parametrize("call", [sample_as_in_the_readme, functions_of_constants])
def test_functions_of_constant_floats_compile_in_one_graph_and_export(call: Any) -> None:
    assert_equal(compiled(call, backend="eager")(X), call(X))
    assert_equal(exported(call, X, strict=True)(X), call(X))


@pytest.mark.parametrize(
    "call",
    [
        lambda x, a: rf.x0_to_eps(x, Y, a / 8),
        lambda x, a: x * rf.convert_time(a, source="sigma", target="log_snr"),
        lambda x, a: x * rf.make_t_list(int(2 * a), shift=a)[1],
        lambda x, a: x * rf.SampleTimestepConfig(t_list=(1, a / 8, 0)).t_list[1],
        lambda x, a: rf.shift_timesteps(x.abs() / 8, a),
    ],
)
def test_a_float_that_changes_is_never_the_old_one(call: Any) -> None:
    again = compiled(call)
    for value in (3.0, 2.5, 4.0):  # the second call makes it symbolic or compiles again, the third reuses that
        assert_equal(again(X, value), call(X, value))


# Numbers of tensors, whose values are open until the call

WITH_ITEMS = {
    "flow_step": lambda x, t: rf.flow_step(x, x, t.item(), t.item() / 2),
    "ode_step": lambda x, t: rf.ode_step(x, x, t.item(), torch.full((3,), 0.2)),
    "v_vp": lambda x, t: rf.convert_prediction(x, x, t.item(), source="x0", target="v_vp"),
    "rf_alpha": lambda x, t: (x * rf.rf_alpha(t.item()), rf.rf_alpha(t.item())),
    "shift_timesteps": lambda x, t: x * rf.shift_timesteps(t.item(), 3.0),
}


@since_2_8
@pytest.mark.parametrize("name", WITH_ITEMS)
def test_the_item_of_a_tensor_is_a_time_in_one_graph_and_exports(name: str) -> None:
    call, (first, second) = WITH_ITEMS[name], torch.tensor([0.25, 0.75])
    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        again = compiled(call, backend="eager")
        assert_equal(again(X, first), call(X, first))
        assert_equal(again(X, second), call(X, second))
    assert_equal(exported(call, X, first, strict=False)(X, second), call(X, second))
    if name != "rf_alpha":  # a strict export returns tensors alone
        assert_equal(exported(call, X, first, strict=True)(X, second), call(X, second))


# Error messages: Dynamo's exception contains ours, whatever changes from call to call

C4, C5, C6 = torch.ones(4, 3), torch.ones(5, 3), torch.ones(6, 3)
# A function, what a first good call takes, and what a bad call takes that differs in value or size.
BAD_CALLS: dict[str, tuple[Any, tuple[Any, ...], tuple[Any, ...]]] = {
    "t's shape": (rf.add_noise, (C4, C4, torch.ones(4)), (C5, C5, torch.ones(6))),
    "two shapes": (rf.add_noise, (C4, C4, 0.5), (C5, C6, 0.5)),
    "expand_like": (rf.expand_like, (torch.ones(4), C4), (torch.ones(5), C6)),
    "axes": (lambda x, y, a: rf.expand_like(x, y, axes=a), (torch.ones(4), C4, (0,)), (torch.ones(5), C5, (7,))),
    "framework": (rf.add_noise, (C4, C4, 0.5), (C5, C5, np.ones(5))),
    "float t": (rf.add_noise, (C4, C4, 0.5), (C5, C5, 1.5)),
    "shift a tensor": (rf.shift_timesteps, (torch.ones(4), 2.0), (0.5, torch.tensor(3.0))),
    "tokens": (lambda x, n: x * rf.resolution_shift(n), (C4, 256), (C5, 10**9)),
    "steps": (lambda x, n: x * rf.make_t_list(n)[0], (C4, 3), (C5, 0)),
    "n": (lambda x, n: x * rf.sample_timesteps((n, 3), CFG, xp=torch), (C4, 4), (C5, -5)),
    "equal": (lambda x, e: rf.sample_timestep_pairs(3, CFG, equal=e, xp=torch), (C4, 0.3), (C5, 2.5)),
    "time": (lambda x, s: x * rf.convert_time(s, source="sigma", target="rf"), (C4, 0.3), (C5, -2.5)),
    "t_list": (lambda x, r: rf.sample_from_t_list(3, r, xp=torch), (C4, [1.0, 0.5, 0.0]), (C5, [0.5, 1.0])),
    "a field": (lambda x, s: x * rf.SampleTimestepConfig(p_std=s).p_std, (C4, 0.3), (C5, -2.5)),
}


@since_2_11
@pytest.mark.parametrize("name", BAD_CALLS)
def test_dynamo_s_exception_contains_the_message(name: str) -> None:
    call, good, bad = BAD_CALLS[name]
    with pytest.raises((TypeError, ValueError)) as eager:
        call(*bad)
    again = compiled(call, backend="eager")
    again(*good)
    with pytest.raises(torch._dynamo.exc.Unsupported) as traced:
        again(*bad)
    assert str(eager.value) in str(traced.value)


def test_what_dynamo_runs_is_right_as_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coverage sees nothing of a trace: here the same lines run eagerly, told that they are traced."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    size = type("SymInt", (), {"__str__": lambda self: "s0"})()
    values = (0.1, 2, True, None, "a", [1.5], (), np.array(0.5), C4, size)
    assert shown(values) == "(0.1, 2, True, None, 'a', (1.5,), (), 0.5, Tensor, s0)"
    numbers = [0.1, -3, 0, math.inf, math.nan, True]
    assert list(map(repr, map(fixed, numbers))) == list(map(repr, numbers))
    assert [lies_in(x, 0.0, 1.0) for x in (0.0, 1.0, -1e-9, 1.1, math.nan)] == [True, True, False, False, False]
    assert rf.convert_time(np.array(np.float32(math.pi / 2)), source="angle", target="rf") == 1.0
    with pytest.raises(ValueError, match="must have the same shape"):
        rf.add_noise(C4, C5, 0.5)
