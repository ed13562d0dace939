"""Train a one-step generator of 8 x 8 digits from scratch, without a teacher: MeanFlow (arXiv:2505.13447).

The network learns the *average* velocity u of the flow between two times r < t, so that one step from noise to data
takes one evaluation, ``x_0 = x_1 - u(x_1, r=0, t=1)``. The derivative of ``(t - r) u = integral of v from r to t``
along the path connects u with the flow v:

    u = v - (t - r) du/dt,    du/dt = the derivative of u(x_t, r, t) in the direction (v, 0, 1)

The right-hand side, held constant, is the training target. The derivative is one ``jax.jvp`` through the network. For
r = t the target is the flow itself and needs no derivative; this is the case for three samples in four.

The program takes about a minute on two CPU cores. It exits with status 1 if a metric is out of its bounds; the run time
is only printed. ``--control`` makes one deliberate mistake in the recipe, and then metrics are out of their bounds.

    python meanflow_digits.py [--out PNG] [--seed N] [--small] [--control NAME]
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from digits_metrics import (
    CLASSES,
    PIXEL_VARIANCE,
    PIXELS,
    Bound,
    Digits,
    Metrics,
    check_bounds,
    load_digit_images,
    measure,
    save_rows,
    show_metrics,
)
from digits_network import WIDTH, Params, dense, descend, init_dense, init_residual, residual, run_in_chunks, waves
from jax import Array, lax, random

from fastgen_rf import SampleTimestepConfig, add_noise, expand_like, flow_step, make_t_list, sample_timestep_pairs

# The frequencies are low because the derivative with respect to t amplifies high ones.
FREQUENCIES = jnp.geomspace(0.25, 2.0, 32)
# The timesteps include 0 and 1, where sampling ends and begins.
TIMES = SampleTimestepConfig(time_dist_type="logitnormal", p_mean=-0.4, min_t=0.0, max_t=1.0)
FLOW_T_LIST = make_t_list(50, max_t=1.0)

BATCH = 256
STEPS, SMALL_STEPS, CHUNK = 4000, 500, 100
SAMPLES_PER_CLASS = 200

# For each number of steps: the largest Frechet distance, and the smallest and the largest variance ratio.
BOUNDS = {1: (0.45, 0.85, 1.25), 2: (0.48, 0.80, 1.15)}
SMALL_BOUNDS = {1: (1.0, 0.80, 1.70), 2: (1.2, 0.80, 1.70)}
ACCURACY, SMALL_ACCURACY = 0.98, 0.95  # the smallest accuracy of the classifier


class Recipe(NamedTuple):
    """The settings that the controls change."""

    derivative: float = 1.0  # factor of the derivative in the target
    equal: float = 0.75  # fraction of the samples with r = t
    constant: bool = True  # whether the target is held constant


CONTROLS = {
    "none": Recipe(),
    "sign": Recipe(derivative=-1.0),
    "no-derivative": Recipe(derivative=0.0),
    "all-equal": Recipe(equal=1.0),
    "no-stop-gradient": Recipe(constant=False),
}

Velocity = Callable[[Array, Array, Array], Array]


# The network


def init_network(key: Array) -> Params:
    """Draw the parameters."""
    k_residual, k_time, k_span, k_label = random.split(key, 4)
    return {
        "residual": init_residual(k_residual),
        "time": init_dense(k_time, 2 * len(FREQUENCIES), WIDTH),
        "span": init_dense(k_span, 2 * len(FREQUENCIES), WIDTH),
        "label": 0.5 * random.normal(k_label, (CLASSES, WIDTH)),
    }


def gaussian_average_velocity(x_t: Array, r: Array, t: Array) -> Array:
    """Return the exact u for x_0 ~ N(0, s): ``((t + r) - s (2 - t - r)) / (D_t (D_t + D_r)) x_t``.

    ``D_t`` is the standard deviation of x_t, ``D_t^2 = (1 - t)^2 s + t^2``. The flow keeps ``x_t / D_t`` constant.
    """
    s = PIXEL_VARIANCE
    d_t, d_r = (jnp.sqrt((1 - at) ** 2 * s + at**2) for at in (t, r))
    return expand_like(((t + r) - s * (2 - t - r)) / (d_t * (d_t + d_r)), x_t) * x_t


def average_velocity(params: Params, x_t: Array, r: Array, t: Array, label: Array) -> Array:
    """Predict u(x_t, r, t), shape (B, 64). The network learns the difference to the average velocity of a Gaussian."""
    condition = (
        dense(params["time"], waves(t, FREQUENCIES))
        + dense(params["span"], waves(t - r, FREQUENCIES))
        + params["label"][label]
    )
    return gaussian_average_velocity(x_t, r, t) + residual(params["residual"], x_t, condition)


# The loss


def meanflow_target(u: Velocity, x_t: Array, r: Array, t: Array, v: Array, recipe: Recipe) -> Array:
    """Return ``v - (t - r) du/dt``, held constant. v, shape (B, 64), is the flow at x_t."""
    _, slope = jax.jvp(u, (x_t, r, t), (v, jnp.zeros_like(r), jnp.ones_like(t)))
    target = v - recipe.derivative * expand_like(t - r, v) * slope
    return lax.stop_gradient(target) if recipe.constant else target


def loss(params: Params, x0: Array, label: Array, key: Array, recipe: Recipe) -> Array:
    """Compute the weighted squared distance of u to its target, averaged over the batch.

    The weight is ``(distance + 1e-3)^-0.5``, held constant. This is the weight of the paper with p = 0.5.
    """
    k_t, k_eps = random.split(key)
    t, r = sample_timestep_pairs(len(x0), TIMES, equal=recipe.equal, rng=k_t, stratified=True)
    # Move the samples with r < t to the front, because only they need a derivative. Stratified sampling makes their
    # number the same in every batch.
    order = jnp.argsort(r == t)
    t, r = t[order], r[order]
    front = slice(len(x0) - round(len(x0) * recipe.equal))
    eps = random.normal(k_eps, x0.shape)
    x_t = add_noise(x0, eps, t)
    v = eps - x0

    def u(x_t: Array, r: Array, t: Array) -> Array:
        return average_velocity(params, x_t, r, t, label[front])

    target = v.at[front].set(meanflow_target(u, x_t[front], r[front], t[front], v[front], recipe))
    distance = jnp.sum((average_velocity(params, x_t, r, t, label) - target) ** 2, axis=1)
    return jnp.mean(lax.stop_gradient((distance + 1e-3) ** -0.5) * distance)


def train(images: Array, labels: Array, key: Array, steps: int, recipe: Recipe) -> Params:
    """Learn the average velocity of the digits; return the moving average of the parameters."""
    k_init, k_train = random.split(key)
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-3, steps))

    def step(state: Any, key: Array) -> tuple[Any, Array]:
        params, average, moments = state
        k_batch, k_loss = random.split(key)
        batch = random.randint(k_batch, (BATCH,), 0, len(images))
        params, moments, value = descend(
            optimizer, params, moments, lambda p: loss(p, images[batch], labels[batch], k_loss, recipe)
        )
        return (params, optax.incremental_update(params, average, 4 / steps), moments), value

    params = init_network(k_init)
    state = (params, jax.tree.map(jnp.copy, params), optimizer.init(params))
    keys = random.split(k_train, (steps // CHUNK, CHUNK))
    averaged: Params = run_in_chunks(step, state, keys, "MeanFlow")[1]
    return averaged


# Sampling


@partial(jax.jit, static_argnames="steps")
def sample(params: Params, noise: Array, label: Array, steps: int) -> Array:
    """Sample in this number of steps, each with the average velocity between its two times."""
    x = noise
    for i in range(steps, 0, -1):
        t, t_next = i / steps, (i - 1) / steps
        u = average_velocity(params, x, jnp.full(len(x), t_next), jnp.full(len(x), t), label)
        x = flow_step(u, x, t, t_next)
    return x


@jax.jit
def sample_flow(params: Params, noise: Array, label: Array) -> Array:
    """Take 50 Euler steps along the flow, which is u(x_t, t, t)."""

    def step(x: Array, t_pair: Array) -> tuple[Array, None]:
        t, t_next = jnp.broadcast_to(t_pair[:, None], (2, len(x)))
        return flow_step(average_velocity(params, x, t, t, label), x, t, t_next), None

    x, _ = lax.scan(step, noise, jnp.array([FLOW_T_LIST[:-1], FLOW_T_LIST[1:]]).T)
    return x


def bounds(metrics: dict[int, Metrics], small: bool) -> list[Bound]:
    """Return the bounds for the samples with one and with two steps."""
    named = []
    for steps, (frechet, low, high) in (SMALL_BOUNDS if small else BOUNDS).items():
        found = metrics[steps]
        title = f"{steps} step{'s' * (steps > 1)}"
        named += [
            Bound(f"{title}: Frechet distance", found.frechet, 0.0, frechet),
            Bound(f"{title}: class accuracy", found.accuracy, SMALL_ACCURACY if small else ACCURACY, 1.0),
            Bound(f"{title}: variance ratio", found.variance, low, high),
        ]
    return named


def main() -> int:
    """Train, measure and draw; return 0 if all metrics are within their bounds, else 1."""
    parser = argparse.ArgumentParser(description="Train a one-step generator of digits (MeanFlow).")
    parser.add_argument("--out", type=Path, default=Path("meanflow_digits.png"), help="the picture")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything except the split of the data")
    parser.add_argument("--small", action="store_true", help="train less, with wider bounds, for tests")
    parser.add_argument("--control", choices=CONTROLS, default="none", help="the deliberate mistake")
    options = parser.parse_args()
    start = time.perf_counter()

    k_train, k_noise = random.split(random.key(options.seed))
    train_set, held_out = load_digit_images()
    steps = SMALL_STEPS if options.small else STEPS
    images, labels = jnp.asarray(train_set.images), jnp.asarray(train_set.labels)
    params = train(images, labels, k_train, steps, CONTROLS[options.control])

    label = jnp.repeat(jnp.arange(CLASSES), SAMPLES_PER_CLASS)
    noise = random.normal(k_noise, (len(label), PIXELS))  # the same for all three
    samples = {
        "flow, 50 steps": sample_flow(params, noise, label),
        "MeanFlow, 1 step": sample(params, noise, label, 1),
        "MeanFlow, 2 steps": sample(params, noise, label, 2),
    }
    digits = {name: Digits(np.asarray(x), np.asarray(label)) for name, x in samples.items()}
    metrics = {name: measure(x, train_set, held_out) for name, x in digits.items()}
    _, one, two = metrics.values()
    verdicts, all_hold = check_bounds(bounds({1: one, 2: two}, options.small))
    digits = {"real (training set)": train_set} | digits
    metrics = {"real (training set)": measure(train_set, train_set, held_out)} | metrics
    print(f"\n{show_metrics(metrics)}\n\n{verdicts}\n")
    save_rows(digits, metrics, options.out, accent="MeanFlow")
    print(f"{options.out} drawn; {time.perf_counter() - start:.0f} s in total")
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
