"""A time for each frame or token, through every function: (B, F) and (B, 1, F) timesteps on (B, C, F, H, W) videos."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import fastgen_rf as rf
from tests.cases.names import KINDS

B, C, F, H, W = 2, 3, 5, 2, 4
CALLS = {
    "add_noise": rf.add_noise,
    "pred_noise_to_pred_x0": rf.pred_noise_to_pred_x0,
    "pred_x0_from_flow": rf.pred_x0_from_flow,
    "x0_to_eps": rf.x0_to_eps,
    "x0_to_flow": rf.x0_to_flow,
    "ode_step": lambda x0, x_t, t: rf.ode_step(x0, x_t, t, t * 0.5),
    "ode_step from a float": lambda x0, x_t, t: rf.ode_step(x0, x_t, 1.0, t),
    **{
        f"{source} to {target}": lambda pred, x_t, t, pair=(source, target): rf.convert_prediction(
            pred, x_t, t, source=pair[0], target=pair[1]
        )
        for source, target in product(KINDS, KINDS)
    },
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))


def video(xp, channels=C):
    rng = np.random.default_rng(0)
    return [xp.array(rng.standard_normal((B, channels, F, H, W))) for _ in range(2)]


def frame_times():
    return np.random.default_rng(1).uniform(0.1, 0.9, (B, F)).astype(np.float32)


def frame_by_frame(xp, call, first, second, t):
    """Each frame of each sample on its own, with its own float t."""
    first, second = xp.numpy(first), xp.numpy(second)
    result = np.empty_like(first)
    for b, f in np.ndindex(t.shape):
        result[b, :, f] = call(first[b, :, f].copy(), second[b, :, f].copy(), float(t[b, f]))
    return result


@every_call
def test_a_time_per_frame_noises_each_frame_as_on_its_own(xp, call):
    first, second = video(xp)
    t = frame_times()
    laid = rf.expand_like(xp.array(t), first, axes=(0, 2))
    assert tuple(laid.shape) == (B, 1, F, 1, 1)
    wanted = frame_by_frame(xp, call, first, second, t)
    assert xp.numpy(call(first, second, laid)) == pytest.approx(wanted, rel=3e-7, abs=1e-7)
    three_axes = xp.array(t[:, None, :])  # (B, 1, F) broadcasts after trailing singleton axes: no need for expand_like
    assert xp.numpy(call(first, second, three_axes)) == pytest.approx(wanted, rel=3e-7, abs=1e-7)


@every_call
def test_a_time_per_token(xp, call):
    rng = np.random.default_rng(2)
    first, second = (xp.array(rng.standard_normal((B, 7, 4))) for _ in range(2))  # (B, tokens, width)
    t = rng.uniform(0.1, 0.9, (B, 7)).astype(np.float32)
    got = xp.numpy(call(first, second, xp.array(t)))
    for b, token in np.ndindex(t.shape):
        alone = call(xp.numpy(first)[b, token].copy(), xp.numpy(second)[b, token].copy(), float(t[b, token]))
        assert got[b, token] == pytest.approx(alone, rel=3e-7, abs=1e-7)


@every_call
def test_frames_laid_on_the_wrong_axis_are_a_value_error_where_shapes_tell(xp, call):
    first, second = video(xp)
    with pytest.raises(ValueError, match=r"must have a leading part of .* expand_like\("):
        call(first, second, xp.array(frame_times()))


def test_where_channels_equal_frames_the_leading_axes_win(xp):
    """The trap: (B, F) fits (B, C, F, H, W) as a time per channel when C equals F. Only the user knows better."""
    first, second = video(xp, channels=F)
    t = xp.array(frame_times())
    per_channel = xp.numpy(rf.add_noise(first, second, t))
    per_frame = xp.numpy(rf.add_noise(first, second, rf.expand_like(t, first, axes=(0, 2))))
    assert np.array_equal(per_channel, xp.numpy(rf.add_noise(first, second, rf.expand_like(t, first, axes=(0, 1)))))
    assert not np.allclose(per_channel, per_frame)


def test_functions_of_time_alone_keep_its_shape(xp):
    t = xp.array(frame_times())
    calls = [rf.rf_alpha, rf.rf_sigma, lambda t: rf.shift_timesteps(t, 3.0)]
    if xp.has_float64:
        calls.append(lambda t: rf.timestep_density(t, rf.SampleTimestepConfig("cosmap")))
    for call in calls:
        assert tuple(call(t).shape) == (B, F)


@pytest.mark.parametrize("stratified", [False, True])
def test_a_time_per_frame_is_drawn_flat_and_reshaped(xp, stratified):
    t = rf.sample_timesteps(B * F, rf.SampleTimestepConfig(), rng=xp.rng(0), stratified=stratified, **xp.draw_args)
    t = xp.namespace.reshape(t, (B, F))
    first, second = video(xp)
    x_t = rf.add_noise(first, second, rf.expand_like(t, first, axes=(0, 2)))
    assert tuple(x_t.shape) == (B, C, F, H, W)
