"""Distill a 50-step rectified-flow teacher into a 2-step student with DMD2, on 8 x 8 digits.

The program takes about a minute on two CPU cores. It has three parts:

1. A *teacher* learns the flow ``v = eps - x_0`` of scikit-learn's handwritten digits.
2. DMD2 turns a copy of the teacher, the *student*, into a generator that needs two network evaluations. A second copy,
   the *fake score*, keeps learning the flow of the student's samples.
3. Both are compared with digits that neither was trained on, and drawn in one picture.

All noising, all conversions between x_0, eps and flow, and all timesteps come from `fastgen_rf`. The program exits with
status 1 if a metric is out of its bounds; the run time is only printed.

    python distill_digits.py [--out PNG] [--seed N] [--small]
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from digits_metrics import (
    CLASSES,
    PIXEL_VARIANCE,
    PIXELS,
    Digits,
    check_bounds,
    distillation_bounds,
    load_digit_images,
    measure,
    save_rows,
    show_metrics,
)
from digits_network import WIDTH, Params, dense, descend, init_dense, init_residual, residual, run_in_chunks, waves
from jax import Array, lax, random

from fastgen_rf import (
    SampleTimestepConfig,
    add_noise,
    expand_like,
    flow_step,
    make_t_list,
    pred_x0_from_flow,
    rf_alpha,
    rf_sigma,
    sample_from_t_list,
    sample_timesteps,
)

FREQUENCIES = jnp.geomspace(1.0, 100.0, 32)
LOGIT_NORMAL = SampleTimestepConfig(time_dist_type="logitnormal")
STUDENT_T_LIST = make_t_list(2)  # two steps from noise to data
TEACHER_T_LIST = make_t_list(50)

BATCH = 256
STEPS, SMALL_STEPS = (3000, 600), (500, 100)  # for the teacher and for the student
TEACHER_CHUNK, STUDENT_CHUNK = 100, 10
FAKE_STEPS = 5  # fake score steps for each step of the student
SAMPLES_PER_CLASS = 200


# The network


def init_network(key: Array) -> Params:
    """Draw the parameters."""
    k_residual, k_time, k_label = random.split(key, 3)
    return {
        "residual": init_residual(k_residual),
        "time": init_dense(k_time, 2 * len(FREQUENCIES), WIDTH),
        "label": 0.5 * random.normal(k_label, (CLASSES, WIDTH)),
        "start": jnp.zeros((len(STUDENT_T_LIST) - 1, WIDTH)),
    }


def velocity(params: Params, x_t: Array, t: Array, label: Array, start: Array | None = None) -> Array:
    """Predict the flow ``v = eps - x_0`` from x_t, shape (B, 64); t, label and start have shape (B,).

    The network learns the difference to the exact flow of Gaussian data x_0 ~ N(0, s), which is
    ``(sigma - alpha s) / (sigma^2 + alpha^2 s) x_t``. Only the fake score receives ``start``: the index in
    STUDENT_T_LIST of the timestep at which the student predicted its sample.
    """
    condition = dense(params["time"], waves(t, FREQUENCIES)) + params["label"][label]
    if start is not None:
        condition += params["start"][start]
    alpha, sigma, s = rf_alpha(t), rf_sigma(t), PIXEL_VARIANCE
    linear = expand_like((sigma - alpha * s) / (sigma**2 + alpha**2 * s), x_t)
    return linear * x_t + residual(params["residual"], x_t, condition)


def denoise(params: Params, x_t: Array, t: Array, label: Array, start: Array | None = None) -> Array:
    """Predict ``x_0 = x_t - t v``."""
    return pred_x0_from_flow(velocity(params, x_t, t, label, start), x_t, t)


# Sampling


@partial(jax.jit, static_argnames="t_list")
def sample_flow(params: Params, noise: Array, label: Array, t_list: tuple[float, ...]) -> Array:
    """Take Euler steps along the flow."""

    def step(x: Array, t_pair: Array) -> tuple[Array, None]:
        t, t_next = jnp.broadcast_to(t_pair[:, None], (2, len(x)))
        return flow_step(velocity(params, x, t, label), x, t, t_next), None

    x, _ = lax.scan(step, noise, jnp.array([t_list[:-1], t_list[1:]]).T)
    return x


def sample_path(params: Params, noise: Array, label: Array, key: Array) -> Array:
    """Predict x_0 and re-noise it, step by step; return x at all of STUDENT_T_LIST, shape (3, B, 64)."""
    path = [noise]
    steps = zip(STUDENT_T_LIST[:-1], STUDENT_T_LIST[1:], random.split(key, len(STUDENT_T_LIST) - 1), strict=True)
    for t, t_next, k in steps:
        x0 = denoise(params, path[-1], jnp.full(len(noise), t), label)
        path.append(add_noise(x0, random.normal(k, x0.shape), t_next))
    return jnp.stack(path)


@jax.jit
def sample_student(params: Params, noise: Array, label: Array, key: Array) -> Array:
    """Generate images in two steps."""
    return sample_path(params, noise, label, key)[-1]


def generate(params: Params, label: Array, key: Array) -> tuple[Array, Array]:
    """Return an x_0 prediction at a random timestep of a student's path, and the index of the timestep.

    This is DMD2's backward simulation. Gradients reach only this prediction, not the path that leads to it.
    """
    k_start, k_noise, k_path = random.split(key, 3)
    t, start = sample_from_t_list(len(label), STUDENT_T_LIST, rng=k_start, return_index=True)
    noise = random.normal(k_noise, (len(label), PIXELS))
    path = lax.stop_gradient(sample_path(params, noise, label, k_path))
    return denoise(params, path[start, jnp.arange(len(label))], t, label), start


# Losses


def noised(x0: Array, key: Array) -> tuple[Array, Array, Array]:
    """Sample t and eps for each image; return ``x_t = (1 - t) x_0 + t eps``, t and eps."""
    k_t, k_eps = random.split(key)
    t = sample_timesteps(len(x0), LOGIT_NORMAL, rng=k_t)
    eps = random.normal(k_eps, x0.shape)
    return add_noise(x0, eps, t), t, eps


def flow_loss(params: Params, x0: Array, label: Array, key: Array, start: Array | None = None) -> Array:
    """Compute ``mean (v(x_t, t) - (eps - x_0))^2``, the loss of the teacher and of the fake score."""
    x_t, t, eps = noised(x0, key)
    return jnp.mean((velocity(params, x_t, t, label, start) - (eps - x0)) ** 2)


def vsd_loss(student: Params, teacher: Params, fake: Params, label: Array, key: Array) -> Array:
    """Move the student's samples to where the teacher's density is higher than that of the fake score.

    The gradient for a sample is ``(fake_x0 - teacher_x0) / mean |sample - teacher_x0|``; both predictions are from the
    same noised copy of the sample. Half the squared distance to ``sample - gradient`` is a loss with this gradient.
    """
    k_generate, k_noise = random.split(key)
    sample, start = generate(student, label, k_generate)
    x_t, t, _ = noised(lax.stop_gradient(sample), k_noise)
    teacher_x0 = denoise(teacher, x_t, t, label)
    fake_x0 = denoise(fake, x_t, t, label, start)
    weight = 1 / (jnp.mean(jnp.abs(sample - teacher_x0), axis=1) + 1e-6)
    gradient = (fake_x0 - teacher_x0) * expand_like(weight, sample)
    target = lax.stop_gradient(sample - gradient)
    return 0.5 * jnp.mean((sample - target) ** 2)


# Training


def random_labels(key: Array) -> Array:
    """Draw a batch of class labels."""
    return random.randint(key, (BATCH,), 0, CLASSES)


def train_teacher(images: Array, labels: Array, key: Array, steps: int) -> Params:
    """Learn the flow of the digits; return the moving average of the parameters."""
    k_init, k_train = random.split(key)
    optimizer = optax.adamw(optax.cosine_decay_schedule(1e-3, steps))

    def step(state: Any, key: Array) -> tuple[Any, Array]:
        params, average, moments = state
        k_batch, k_loss = random.split(key)
        batch = random.randint(k_batch, (BATCH,), 0, len(images))
        params, moments, loss = descend(
            optimizer, params, moments, lambda p: flow_loss(p, images[batch], labels[batch], k_loss)
        )
        average = optax.incremental_update(params, average, 3 / steps)
        return (params, average, moments), loss

    params = init_network(k_init)
    state = (params, jax.tree.map(jnp.copy, params), optimizer.init(params))
    keys = random.split(k_train, (steps // TEACHER_CHUNK, TEACHER_CHUNK))
    averaged: Params = run_in_chunks(step, state, keys, "teacher")[1]
    return averaged


def distill(teacher: Params, key: Array, steps: int) -> Params:
    """Run DMD2 from the teacher; return the moving average of the student's parameters."""
    student_optimizer = optax.adam(optax.linear_schedule(0.0, 3e-4, 20), b1=0.0)
    fake_optimizer = optax.adam(optax.linear_schedule(0.0, 1e-3, 100), b1=0.0)

    def fake_step(student: Params, state: Any, key: Array) -> tuple[Any, Array]:
        fake, moments = state
        k_label, k_generate, k_loss = random.split(key, 3)
        label = random_labels(k_label)
        sample, start = generate(student, label, k_generate)
        fake, moments, loss = descend(
            fake_optimizer, fake, moments, lambda p: flow_loss(p, sample, label, k_loss, start)
        )
        return (fake, moments), loss

    def step(state: Any, key: Array) -> tuple[Any, Array]:
        student, average, moments, fake_state = state
        k_fake, k_label, k_loss = random.split(key, 3)
        fake_keys = random.split(k_fake, FAKE_STEPS)
        fake_state, _ = lax.scan(partial(fake_step, student), fake_state, fake_keys)
        fake, _ = fake_state
        label = random_labels(k_label)
        student, moments, loss = descend(
            student_optimizer, student, moments, lambda p: vsd_loss(p, teacher, fake, label, k_loss)
        )
        average = optax.incremental_update(student, average, 6 / steps)
        return (student, average, moments, fake_state), loss

    student, average, fake = (jax.tree.map(jnp.copy, teacher) for _ in range(3))
    state = (student, average, student_optimizer.init(student), (fake, fake_optimizer.init(fake)))
    keys = random.split(key, (steps // STUDENT_CHUNK, STUDENT_CHUNK))
    averaged: Params = run_in_chunks(step, state, keys, "student")[1]
    return averaged


def main() -> int:
    """Train, distill, measure and draw; return 0 if all metrics are within their bounds, else 1."""
    parser = argparse.ArgumentParser(description="Distill a flow of digits into two steps (DMD2).")
    parser.add_argument("--out", type=Path, default=Path("distill_digits.png"), help="the picture")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything except the split of the data")
    parser.add_argument("--small", action="store_true", help="train less, with wider bounds, for tests")
    options = parser.parse_args()
    start = time.perf_counter()

    k_teacher, k_distill, k_noise, k_sample = random.split(random.key(options.seed), 4)
    train, held_out = load_digit_images()
    teacher_steps, student_steps = SMALL_STEPS if options.small else STEPS
    teacher = train_teacher(jnp.asarray(train.images), jnp.asarray(train.labels), k_teacher, teacher_steps)
    student = distill(teacher, k_distill, student_steps)

    label = jnp.repeat(jnp.arange(CLASSES), SAMPLES_PER_CLASS)
    noise = random.normal(k_noise, (len(label), PIXELS))  # the same for all three
    samples = {
        "teacher, 50 steps": sample_flow(teacher, noise, label, TEACHER_T_LIST),
        "teacher, 2 steps": sample_flow(teacher, noise, label, STUDENT_T_LIST),
        "student, 2 steps": sample_student(student, noise, label, k_sample),
    }
    digits = {name: Digits(np.asarray(x), np.asarray(label)) for name, x in samples.items()}
    metrics = {name: measure(x, train, held_out) for name, x in digits.items()}
    verdicts, all_hold = check_bounds(distillation_bounds(*metrics.values(), small=options.small))
    digits = {"real (training set)": train} | digits
    metrics = {"real (training set)": measure(train, train, held_out)} | metrics
    print(f"\n{show_metrics(metrics)}\n\n{verdicts}\n")
    save_rows(digits, metrics, options.out, accent="student")
    print(f"{options.out} drawn; {time.perf_counter() - start:.0f} s in total")
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
