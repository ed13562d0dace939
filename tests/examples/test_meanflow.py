"""MeanFlow: its target where the average velocity is known, and the program with a right and a wrong recipe."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import random
from meanflow_digits import CONTROLS, gaussian_average_velocity, meanflow_target

PAIRS = 4096


def gaussian_samples():
    """Noise and times r <= t, including both ends."""
    k_x, k_t = random.split(random.key(0))
    r, t = jnp.sort(random.uniform(k_t, (2, PAIRS)), axis=0)
    return random.normal(k_x, (PAIRS, 1)), r.at[:2].set(0.0), t.at[:2].set(1.0)


def error_of_the_target(control):
    """Largest distance between the target and the average velocity, which is exact here."""
    x_t, r, t = gaussian_samples()
    u, v = gaussian_average_velocity(x_t, r, t), gaussian_average_velocity(x_t, t, t)
    return float(jnp.max(jnp.abs(meanflow_target(gaussian_average_velocity, x_t, r, t, v, CONTROLS[control]) - u)))


def test_only_the_target_of_the_recipe_is_solved_by_the_exact_average_velocity():
    assert error_of_the_target("none") < 5e-6
    assert min(error_of_the_target("sign"), error_of_the_target("no-derivative")) > 1


def test_the_target_is_a_constant_to_the_gradient():
    x_t, r, t = gaussian_samples()

    def total(scale, control):
        def u(x_t, r, t):
            return scale * gaussian_average_velocity(x_t, r, t)

        return jnp.sum(meanflow_target(u, x_t, r, t, x_t, CONTROLS[control]))

    assert jax.grad(total)(1.0, "none") == 0
    assert abs(jax.grad(total)(1.0, "no-stop-gradient")) > 1


def test_the_program_meets_its_bounds_in_a_reduced_size(start, tmp_path):
    start("meanflow_digits.py", "--small", "--out", "digits.png")
    assert (tmp_path / "digits.png").stat().st_size > 10_000


def test_the_program_fails_if_the_derivative_has_the_wrong_sign(start):
    printed = start("meanflow_digits.py", "--small", "--control", "sign", status=1)
    assert "FAILED  1 step: Frechet distance" in printed
