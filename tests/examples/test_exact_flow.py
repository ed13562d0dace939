"""The exact flow of a data set: its prediction in closed form, and the program with a right and a wrong step."""

from __future__ import annotations

import sys

import exact_flow
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import multivariate_normal

DATA = np.random.default_rng(0).standard_normal((5, 3))
X_T = np.random.default_rng(1).standard_normal((4, 3))


def posterior_mean(x_t, t):
    """E[x_0 | x_t] by Bayes' rule, from the density of each x_t given each x_0."""
    log_density = [multivariate_normal.logpdf(x_t, (1 - t) * x0, t * t) for x0 in DATA]
    return softmax(log_density) @ DATA


@pytest.mark.parametrize("t", [1.0, 0.9, 0.5, 0.2, 0.02])
def test_the_prediction_is_the_posterior_mean(t):
    expected = [posterior_mean(x_t, t) for x_t in X_T]
    np.testing.assert_allclose(exact_flow.expected_data(X_T, t, DATA, np), expected, rtol=1e-9, atol=1e-12)


def test_the_program_meets_its_bounds_in_a_reduced_size(start, tmp_path):
    start("exact_flow.py", "--small", "--out", "flow.png")
    for picture in ("flow", "flow_dark", "flow_digits", "flow_digits_dark"):
        assert (tmp_path / f"{picture}.png").stat().st_size > 10_000


def test_the_program_fails_when_a_step_goes_too_far(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(exact_flow, "ode_step", lambda x0, x_t, t, t_next: x0)
    monkeypatch.setattr(sys, "argv", ["exact_flow.py", "--small", "--out", str(tmp_path / "flow.png")])
    assert exact_flow.main() == 1
    assert "FAILED" in capsys.readouterr().out
