"""convert_prediction, ode_step, shifts, quantiles and densities under autograd, torch.func and torch.compile."""

from __future__ import annotations

from itertools import product

import pytest
import torch

import fastgen_rf as rf
from tests.cases.names import PAIRS
from tests.torch.plain import LARGE, SMALL, randn, times

every_pair = pytest.mark.parametrize(("source", "target"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
DENSE_LAWS = ["uniform", "logitnormal", "lognormal", "mode", "cosmap", "beta", "loguniform"]


def through_x0_and_eps(pred, x_t, t, source, target):
    """The conversion by way of x_0 and eps in float64, each from its definition."""
    pred, x_t = pred.double(), x_t.double()
    t = t.double().reshape(t.shape + (1,) * (x_t.ndim - t.ndim))
    if source == "x0":
        x0, eps = pred, (x_t - (1 - t) * pred) / t
    elif source in ("eps", "score"):
        eps = pred if source == "eps" else -t * pred
        x0 = (x_t - t * eps) / (1 - t)
    elif source == "flow":
        x0, eps = x_t - t * pred, x_t + (1 - t) * pred
    else:
        det = (1 - t) ** 2 + t**2
        v = pred * det.sqrt() if source == "v_vp" else pred
        x0, eps = ((1 - t) * x_t - t * v) / det, (t * x_t + (1 - t) * v) / det
    if target == "v_vp":
        return ((1 - t) * eps - t * x0) / ((1 - t) ** 2 + t**2).sqrt()
    return {"x0": x0, "eps": eps, "flow": eps - x0, "v": (1 - t) * eps - t * x0, "score": -eps / t}[target]


def gradients(function, inputs, cotangent):
    inputs = [x.detach().requires_grad_() for x in inputs]
    result = function(*inputs)
    return result, torch.autograd.grad(result, inputs, cotangent.to(result.dtype), allow_unused=True)


def assert_close(got, wanted):
    """Equal to float64's rounding, an unused input's None to zero."""
    for ours, exact in zip(got, wanted, strict=True):
        if ours is None:
            assert exact is None or exact.abs().max() < 1e-15
        else:
            torch.testing.assert_close(ours.double(), exact.double(), rtol=2e-6, atol=2e-6 * exact.abs().max().item())


@pytest.mark.parametrize(
    ("source", "target", "shape"),
    [
        *((*pair, SMALL) for pair in PAIRS),
        *((*pair, LARGE) for pair in PAIRS if pair[0] in ("score", "v_vp")),  # each kind of coefficient
    ],
    ids=str,
)
def test_gradients_for_all_three_arguments_are_those_of_the_definitions(source, target, shape):
    inputs = (randn(*shape), randn(*shape, seed=1), times(shape[0]))
    cotangent = randn(*shape, seed=2)
    ours, got = gradients(lambda *a: rf.convert_prediction(*a, source=source, target=target), inputs, cotangent)
    exact, wanted = gradients(lambda *a: through_x0_and_eps(*a, source, target), inputs, cotangent)
    torch.testing.assert_close(ours.double(), exact, rtol=1e-6, atol=1e-6)
    assert_close(got, wanted)


@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
def test_gradients_of_a_step_for_all_four_arguments(shape):
    t = times(shape[0])
    inputs = (randn(*shape), randn(*shape, seed=1), t, 0.5 * t)

    def line(x0, x_t, t, t_next):
        r = (t_next.double() / t.double()).reshape(-1, *(1,) * (x0.ndim - 1))
        return x0.double() + (x_t.double() - x0.double()) * r

    def tangent(flow, x_t, t, t_next):
        return x_t.double() + (t_next.double() - t.double()).reshape(-1, *(1,) * (x_t.ndim - 1)) * flow.double()

    for step, plain in ((rf.ode_step, line), (rf.flow_step, tangent)):
        _, got = gradients(step, inputs, randn(*shape, seed=2))
        _, wanted = gradients(plain, inputs, randn(*shape, seed=2))
        assert_close(got, wanted)


@pytest.mark.parametrize("n", [5, 700_000])
def test_the_gradient_of_a_shift_is_its_slope(n):
    t = times(n, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(rf.shift_timesteps(t, 5.0).sum(), t)
    torch.testing.assert_close(slope, 5 / (1 + 4 * t.detach()) ** 2, rtol=1e-13, atol=0)


@every_pair
def test_double_backward_follows(source, target):
    inputs = [x.double().requires_grad_() for x in (randn(2, 3), randn(2, 3, seed=1), times(2))]
    assert torch.autograd.gradgradcheck(
        lambda *a: rf.convert_prediction(*a, source=source, target=target), inputs, atol=1e-4
    )


CALLS = {  # beside those that the table of capabilities goes through
    "an unused input": lambda a, b, t: rf.convert_prediction(a, b, t, source="eps", target="score"),
    "ode_step to a float": lambda a, b, t: rf.ode_step(a, b, t, 0.1),
    "flow_step to a float": lambda a, b, t: rf.flow_step(a, b, t, 0.1),
    "convert_time by functions": lambda a, b, t: rf.convert_time(t, source="angle", target="log_snr"),
    "timestep_quantile": lambda a, b, t: rf.timestep_quantile(t, rf.SampleTimestepConfig("mode", truncate=True)),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))


@every_call
def test_everything_compiles_in_one_graph(call):
    torch._dynamo.reset()
    inputs = (randn(4, 6), randn(4, 6, seed=1), times(4))
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), call(*inputs))


@every_call
def test_everything_vmaps(call):
    a, b, t = randn(5, 4, 6), randn(5, 4, 6, seed=1), times(5, 4)
    got = torch.func.vmap(call)(a, b, t)
    torch.testing.assert_close(got, torch.stack([call(*each) for each in zip(a, b, t, strict=True)]))


@pytest.mark.parametrize("law", ["shifted", "lognormal", "mode", "beta"])
def test_stratified_draws_compile_for_any_n(law):
    torch._dynamo.reset()
    cfg = rf.SampleTimestepConfig(law, truncate=True)

    def draw(n):
        return rf.sample_timesteps(n, cfg, dtype=torch.float64, stratified=True)

    compiled = torch.compile(draw, fullgraph=True, dynamic=True, backend="aot_eager")
    for n in (8, 33, 64):
        t = compiled(n)
        u = torch.linspace(0, 1, n + 1, dtype=torch.float64)
        edges = rf.timestep_quantile(u, cfg)
        ordered = t.sort().values
        assert bool(((ordered >= edges[:-1] - 1e-12) & (ordered <= edges[1:] + 1e-12)).all())


@pytest.mark.parametrize("law", DENSE_LAWS)
def test_the_slope_of_the_quantile_is_one_over_the_density(law):
    cfg = rf.SampleTimestepConfig(law)
    u = torch.linspace(0.02, 0.98, 25, dtype=torch.float64).requires_grad_()
    t = rf.timestep_quantile(u, cfg)
    (slope,) = torch.autograd.grad(t.sum(), u)
    torch.testing.assert_close(slope * rf.timestep_density(t.detach(), cfg), torch.ones(25).double(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("strict", [True, False])
def test_a_module_that_draws_exports_with_a_dynamic_batch(strict):
    class Draw(torch.nn.Module):
        def forward(self, x):
            cfg, n = rf.SampleTimestepConfig("lognormal"), x.shape[0]
            rungs = rf.sample_from_t_list(n, (1.0, 0.5, 0.0), device=x.device)
            return rf.sample_timesteps(n, cfg, device=x.device, stratified=True), rungs

    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(Draw(), (torch.zeros(8, 2),), dynamic_shapes=({0: batch},), strict=strict)
    assert [t.shape for t in exported.module()(torch.zeros(5, 2))] == [(5,), (5,)]


@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
def test_gradients_of_a_batch_of_cotangents(shape):
    t = times(shape[0]).requires_grad_()
    result = rf.add_noise(randn(*shape), randn(*shape, seed=1), t)
    cotangents = randn(3, *shape, seed=2)
    (got,) = torch.autograd.grad(result, t, cotangents, is_grads_batched=True, retain_graph=True)
    each = [torch.autograd.grad(result, t, cotangent, retain_graph=True)[0] for cotangent in cotangents]
    torch.testing.assert_close(got, torch.stack(each), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("law", "truncate"),
    [*product(DENSE_LAWS, (False, True)), ("shifted", True), ("shifted_logitnormal", True)],
)
def test_densities_have_the_slope_of_differences(law, truncate):
    cfg = rf.SampleTimestepConfig(law, truncate=truncate)
    t = torch.tensor([0.2, 0.3, 0.6, 0.9], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(rf.timestep_density(t, cfg).sum(), t)
    above, below = (rf.timestep_density(t.detach() + step, cfg) for step in (1e-6, -1e-6))
    torch.testing.assert_close(slope, (above - below) / 2e-6, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("u", [2.0**-60, 2.0**-54, 0.3, 1 - 2.0**-53])
@pytest.mark.parametrize("law", ["lognormal", "logitnormal", "beta", "mode"])
def test_gradients_of_quantiles_are_finite_where_the_quantiles_are(law, u):
    u = torch.tensor([u], dtype=torch.float64, requires_grad=True)
    cfg = rf.SampleTimestepConfig(law, truncate=True, p_std=0.1 if law == "lognormal" else 1.0)
    (slope,) = torch.autograd.grad(rf.timestep_quantile(u, cfg).sum(), u)
    assert slope.isfinite().all()
