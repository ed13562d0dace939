"""Train a one-step generator of 8 x 8 digits from scratch, with no teacher: MeanFlow (arXiv:2505.13447).

The network learns the *average* velocity u of the flow between two times r < t, so that one step from noise to data
is one evaluation, ``x_0 = x_1 - u(x_1, r=0, t=1)``. What ties u to the flow v is the derivative of
``(t - r) u = integral of v from r to t`` along the path:

    u = v - (t - r) du/dt,    du/dt = the derivative of u(x_t, r, t) in the direction (v, 0, 1)

The right-hand side, held constant, is the training target; the derivative is one ``jax.jvp`` through the network.
Where r = t it is the flow itself, and nothing needs to be differentiated: three samples in four are such. About a
minute on two CPU cores. The program exits with status 1 when a figure misses its bound.

    python meanflow_digits.py [--out PNG] [--seed N] [--steps N]
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from digits_metrics import Digits, load_digit_images, measure, show_figures
from digits_network import (
    CLASSES,
    PIXELS,
    WIDTH,
    Params,
    dense,
    descend,
    init_dense,
    init_residual,
    residual,
    run_in_chunks,
    waves,
)
from jax import Array, random

from fastgen_rf import SampleTimestepConfig, add_noise, expand_like, flow_step, sample_timestep_pairs

PIXEL_VARIANCE = 0.17  # of a digit's pixels about the mean of its class
FREQUENCIES = jnp.geomspace(0.25, 2.0, 32)  # the derivative in t amplifies high ones
TIMES = SampleTimestepConfig(time_dist_type="logitnormal", p_mean=-0.4, min_t=0.0, max_t=1.0)  # it must reach 0 and 1
EQUAL = 0.75  # share of the samples with r = t

BATCH = 256
MOVING = BATCH - round(BATCH * EQUAL)  # samples with r < t: they alone pay for a derivative
STEPS, CHUNK = 4000, 100
SAMPLES_PER_CLASS = 200

BOUNDS = {
    1: {"Frechet distance": (0.0, 0.45), "class accuracy": (0.98, 1.0), "variance ratio": (0.85, 1.25)},
    2: {"Frechet distance": (0.0, 0.48), "class accuracy": (0.98, 1.0), "variance ratio": (0.80, 1.15)},
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
    """Return u exactly where x_0 is N(0, s): ``((t + r) - s (2 - t - r)) / (D_t (D_t + D_r)) x_t``.

    ``D_t`` is the standard deviation of x_t, ``D_t^2 = (1 - t)^2 s + t^2``; the flow carries ``x_t / D_t`` along.
    """
    s = PIXEL_VARIANCE
    d_t, d_r = (jnp.sqrt((1 - at) ** 2 * s + at**2) for at in (t, r))
    return expand_like(((t + r) - s * (2 - t - r)) / (d_t * (d_t + d_r)), x_t) * x_t


def average_velocity(params: Params, x_t: Array, r: Array, t: Array, label: Array) -> Array:
    """Predict u(x_t, r, t), shape (B, 64): the Gaussian's, and what the network adds to it."""
    condition = (
        dense(params["time"], waves(t, FREQUENCIES))
        + dense(params["span"], waves(t - r, FREQUENCIES))
        + params["label"][label]
    )
    return gaussian_average_velocity(x_t, r, t) + residual(params["residual"], x_t, condition)


# The loss


def meanflow_target(u: Velocity, x_t: Array, r: Array, t: Array, v: Array) -> Array:
    """Return ``v - (t - r) du/dt``, held constant; v, shape (B, 64), is the flow at x_t."""
    _, slope = jax.jvp(u, (x_t, r, t), (v, jnp.zeros_like(r), jnp.ones_like(t)))
    return jax.lax.stop_gradient(v - expand_like(t - r, v) * slope)


def loss(params: Params, x0: Array, label: Array, key: Array) -> Array:
    """Compute the weighted squared distance of u to its target, averaged over the batch."""
    k_t, k_eps = random.split(key)
    t, r = sample_timestep_pairs(len(x0), TIMES, equal=EQUAL, rng=k_t, stratified=True)
    first = jnp.argsort(r == t)  # those with r < t come first: the batch is as random as before
    t, r = t[first], r[first]
    eps = random.normal(k_eps, x0.shape)
    x_t = add_noise(x0, eps, t)
    v = eps - x0
    head = slice(MOVING)

    def u(x_t: Array, r: Array, t: Array) -> Array:
        return average_velocity(params, x_t, r, t, label[head])

    target = v.at[head].set(meanflow_target(u, x_t[head], r[head], t[head], v[head]))
    error = jnp.sum((average_velocity(params, x_t, r, t, label) - target) ** 2, axis=1)
    weight = jax.lax.stop_gradient((error + 1e-3) ** -0.5)
    return jnp.mean(weight * error)


def train(images: Array, labels: Array, key: Array, steps: int) -> Params:
    """Learn the average velocity of the digits; return the moving average of the parameters."""
    k_init, k_train = random.split(key)
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-3, steps))

    def step(state: Any, key: Array) -> tuple[Any, Array]:
        params, average, moments = state
        k_batch, k_loss = random.split(key)
        batch = random.randint(k_batch, (BATCH,), 0, len(images))
        params, moments, value = descend(
            optimizer, params, moments, lambda p: loss(p, images[batch], labels[batch], k_loss)
        )
        return (params, optax.incremental_update(params, average, 1e-3), moments), value

    params = init_network(k_init)
    state = (params, jax.tree.map(jnp.copy, params), optimizer.init(params))
    keys = random.split(k_train, (steps // CHUNK, CHUNK))
    averaged: Params = run_in_chunks(step, state, keys, "MeanFlow")[1]
    return averaged


@partial(jax.jit, static_argnames="steps")
def sample(params: Params, noise: Array, label: Array, steps: int) -> Array:
    """Walk from noise to data in so many evaluations, each along the average velocity of its stretch."""
    x = noise
    for i in range(steps, 0, -1):
        t, t_next = i / steps, (i - 1) / steps
        u = average_velocity(params, x, jnp.full(len(x), t_next), jnp.full(len(x), t), label)
        x = flow_step(u, x, t, t_next)
    return x


def main() -> int:
    """Train, measure, draw; return 0 when every figure keeps within its bounds, else 1."""
    parser = argparse.ArgumentParser(description="Train a one-step generator of digits (MeanFlow).")
    parser.add_argument("--out", type=Path, default=Path("meanflow_digits.png"), help="the picture")
    parser.add_argument("--seed", type=int, default=0, help="of everything but the data's split")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of training, a multiple of {CHUNK}")
    options = parser.parse_args()
    start = time.perf_counter()

    k_train, k_noise = random.split(random.key(options.seed))
    train_set, held_out = load_digit_images()
    params = train(jnp.asarray(train_set.images), jnp.asarray(train_set.labels), k_train, options.steps)

    label = jnp.repeat(jnp.arange(CLASSES), SAMPLES_PER_CLASS)
    noise = random.normal(k_noise, (len(label), PIXELS))
    digits = {n: Digits(np.asarray(sample(params, noise, label, n)), np.asarray(label)) for n in BOUNDS}
    figures = {n: measure(x, train_set, held_out) for n, x in digits.items()}
    print(show_figures({f"{n} step{'s' * (n > 1)}": f for n, f in figures.items()}))
    print(f"{time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
