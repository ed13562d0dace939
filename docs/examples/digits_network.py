"""The small network of the JAX programs on digits, and their training loop. Nothing here is specific to flows.

The network is a residual MLP with layer norms that a condition modulates (adaLN-zero). The last layer of each residual
branch starts at zero, so an untrained network returns zeros.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from digits_metrics import PIXELS
from jax import Array, lax, random
from tqdm import tqdm

Params = dict[str, Any]

WIDTH, BLOCKS = 128, 3


def init_dense(key: Array, n_in: int, n_out: int) -> Params:
    """Draw ``w ~ N(0, 1 / n_in)``; ``b = 0``."""
    return {"w": n_in**-0.5 * random.normal(key, (n_in, n_out)), "b": jnp.zeros(n_out)}


def init_zero(n_in: int, n_out: int) -> Params:
    """Start at ``w = 0``, ``b = 0``."""
    return {"w": jnp.zeros((n_in, n_out)), "b": jnp.zeros(n_out)}


def dense(p: Params, x: Array) -> Array:
    """Return ``x w + b``."""
    y: Array = x @ p["w"] + p["b"]
    return y


def init_residual(key: Array) -> Params:
    """Draw the parameters of :func:`residual`."""
    keys = iter(random.split(key, 2 + 2 * BLOCKS))
    return {
        "input": init_dense(next(keys), PIXELS, WIDTH),
        "condition": init_dense(next(keys), WIDTH, WIDTH),
        "blocks": [
            {
                "up": init_dense(next(keys), WIDTH, 2 * WIDTH),
                "down": init_dense(next(keys), 2 * WIDTH, WIDTH),
                "modulation": init_zero(WIDTH, 3 * WIDTH),
            }
            for _ in range(BLOCKS)
        ],
        "output": init_zero(WIDTH, PIXELS),
    }


def residual(params: Params, x: Array, condition: Array) -> Array:
    """Map images, shape (B, 64), to images; ``condition``, shape (B, WIDTH), modulates the layer norms."""
    condition = jax.nn.silu(dense(params["condition"], jax.nn.silu(condition)))
    h = dense(params["input"], x)
    for block in params["blocks"]:
        shift, scale, gate = jnp.split(dense(block["modulation"], condition), 3, axis=1)
        y = jax.nn.standardize(h, axis=1) * (1 + scale) + shift
        h += gate * dense(block["down"], jax.nn.silu(dense(block["up"], y)))
    return dense(params["output"], jax.nn.standardize(h, axis=1))


def waves(t: Array, frequencies: Array) -> Array:
    """Return sines and cosines of times, shape (B,), at each frequency."""
    angle = t[:, None] * frequencies
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1)


def descend(
    optimizer: optax.GradientTransformation,
    params: Params,
    moments: Any,
    loss: Callable[[Params], Array],
) -> tuple[Params, Any, Array]:
    """Take one optimizer step down the loss."""
    value, gradient = jax.value_and_grad(loss)(params)
    updates, moments = optimizer.update(gradient, moments, params)
    return optax.apply_updates(params, updates), moments, value


def run_in_chunks(step: Callable[..., Any], state: Any, keys: Array, title: str) -> Any:
    """Scan over keys, shape (chunks, steps), and move the progress bar after each chunk."""
    run_chunk = jax.jit(partial(lax.scan, step), donate_argnums=0)
    with tqdm(total=keys.size, desc=title, unit="step", disable=None) as bar:
        for chunk in keys:
            state, losses = run_chunk(state, chunk)
            bar.set_postfix(loss=f"{losses.mean():.3f}", refresh=False)
            bar.update(len(chunk))
    return state
