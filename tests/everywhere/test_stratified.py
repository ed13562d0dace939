"""Stratified draws, and streams that many processes share."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

import fastgen_rf as rf

UNIT = rf.SampleTimestepConfig(time_dist_type="uniform", min_t=0.0, max_t=1.0)


def draw(xp, n, cfg=UNIT, seed=0, **how):
    t = rf.sample_timesteps(n, cfg, rng=xp.rng(seed), stratified=True, **xp.draw_args, **how)
    return np.asarray(xp.numpy(t), np.float64)


@pytest.mark.needs("float64")
@pytest.mark.parametrize("n", [1, 2, 7, 64, 1000])
def test_each_stratum_gets_one_draw(xp, n):
    t = draw(xp, n, dtype=xp.dtype("float64"))
    assert sorted(np.floor(t * n).astype(int).tolist()) == list(range(n))


@pytest.mark.parametrize("law", ["shifted", "logitnormal", "lognormal", "mode", "beta"])
def test_each_stratum_of_any_law_gets_one_draw(xp, law):
    c = rf.SampleTimestepConfig(law, truncate=True)
    edges = rf.timestep_quantile(np.arange(65) / 64, c)
    edges[[0, -1]] = [0, 1]
    slack = 2e-7 * np.arange(65).clip(0, 1)  # float32
    t = np.sort(draw(xp, 64, c))
    assert np.all((t >= edges[:-1] - slack[:-1]) & (t <= edges[1:] + slack[1:]))


def test_strata_come_in_random_order(xp):
    order = np.floor(draw(xp, 20_000) * 20_000)
    assert abs(stats.spearmanr(order[:-1], order[1:]).statistic) < 4 / math.sqrt(20_000)
    assert abs(stats.spearmanr(order, np.arange(20_000)).statistic) < 4 / math.sqrt(20_000)


@pytest.mark.needs("float64")
def test_the_place_in_the_stratum_is_uniform_and_independent_of_the_order(xp):
    n = 5000
    t = draw(xp, n, dtype=xp.dtype("float64"))
    order = np.floor(t * n)
    assert stats.kstest(t * n - order, stats.uniform.cdf).pvalue > 1e-3
    assert abs(stats.spearmanr(t * n - order, order).statistic) < 4 / math.sqrt(n)


def test_a_single_place_in_the_batch_follows_the_law(xp):
    c = rf.SampleTimestepConfig("logitnormal", min_t=0.0, max_t=1.0)
    thirds = np.concatenate([draw(xp, 8, c, seed)[:3] for seed in range(400)])
    assert stats.kstest(np.log(thirds / (1 - thirds)), stats.norm.cdf).pvalue > 1e-3


def test_the_batch_mean_of_a_smooth_function_varies_27_times_less(xp):
    """At n = 64 from 2.7e-2 to below 1e-3."""
    c = rf.SampleTimestepConfig("logitnormal")

    def spread(stratified):
        means = []
        for seed in range(200):
            t = rf.sample_timesteps(64, c, rng=xp.rng(seed), stratified=stratified, **xp.draw_args)
            means.append(np.mean(np.asarray(xp.numpy(t), np.float64)))
        return np.std(means)

    assert spread(False) == pytest.approx(2.6e-2, abs=0.4e-2)
    assert spread(True) < 1e-3


@pytest.mark.dtypes()
def test_every_stratified_t_lies_within_the_bounds(xp, dtype):
    t = draw(xp, 500, rf.SampleTimestepConfig(), dtype=xp.dtype(dtype))
    assert t.min() >= 0.001
    assert t.max() <= 0.999


def test_no_draws_are_no_draws(xp):
    assert draw(xp, 0).shape == (0,)


def test_a_numpy_generator_gives_every_framework_the_same_strata(xp):
    there = rf.sample_timesteps(50, UNIT, rng=np.random.default_rng(3), stratified=True, **xp.draw_args)
    here = rf.sample_timesteps(50, UNIT, rng=np.random.default_rng(3), stratified=True)
    assert xp.numpy(there).tolist() == here.tolist()


@pytest.mark.parametrize("bad", [1, None, "yes"], ids=repr)
def test_stratified_is_true_or_false(bad):
    with pytest.raises(TypeError, match="stratified must be True or False"):
        rf.sample_timesteps(4, UNIT, xp=np, stratified=bad)


# One stream, many processes

RANK = """
import sys
import numpy as np
import fastgen_rf as rf

framework = sys.argv[1]
cfg = rf.SampleTimestepConfig("logitnormal")
if framework == "jax":
    import jax

    stream = lambda step: jax.random.fold_in(jax.random.key(7), step)
elif framework == "torch":
    import torch

    stream = lambda step: torch.Generator().manual_seed(7 * 2**20 + step)
else:
    stream = lambda step: np.random.Generator(np.random.Philox(key=7, counter=[0, 0, 0, step]))
for run in sys.argv[2:]:
    rank, ranks, first, last = map(int, run.split(","))
    for step in range(first, last):
        times = rf.sample_timesteps(24, cfg, rng=stream(step), stratified=True)  # the global batch, on every rank
        pairs = rf.sample_timestep_pairs(24, cfg, rng=stream(step), stratified=True)
        for arrays in ((times,), pairs):
            local = [np.asarray(array[rank * 24 // ranks : (rank + 1) * 24 // ranks]) for array in arrays]
            print(*(",".join(float(time).hex() for time in sample) for sample in zip(*local)))
"""


def drawn_in_processes(framework, *runs):
    """Return what each process prints that draws, one after the other, its ``(rank, ranks, first step, end)``."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, framework, *(",".join(map(str, run)) for run in those)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for those in runs
    ]
    outputs = [process.communicate()[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(runs)
    return outputs


def put_together(parts):
    """Times, then pairs, of each step in turn: those of all ranks."""
    return [" ".join(parts).split() for parts in zip(*parts, strict=True)]


@pytest.mark.backends("numpy", "jax", "torch")
@pytest.mark.undealt
def test_the_union_over_4_processes_is_the_batch_of_one_and_a_run_resumed_on_3_repeats_it(xp):
    ranks = [[(rank, 4, 0, 5), (rank, 3, 3, 5)] for rank in range(3)]
    *three, fourth = drawn_in_processes(xp.name, *ranks, [(3, 4, 0, 5), (0, 1, 0, 5)])
    alone = [line.split() for line in fourth[10:]]
    assert [len(set(step)) for step in alone] == [24] * 10
    assert len({tuple(step) for step in alone}) == 10
    assert [sum(len(set(pair.split(","))) == 1 for pair in pairs) for pairs in alone[1::2]] == [18] * 5
    assert put_together([part[:10] for part in (*three, fourth)]) == alone
    assert put_together([part[10:] for part in three]) == alone[6:]
