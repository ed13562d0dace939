"""The metrics of the programs on digits, and their bounds: a result out of bounds is noticed, and so is NaN."""

from __future__ import annotations

import numpy as np
import pytest
from digits_metrics import Digits, Metrics, check_bounds, distillation_bounds, load_digit_images, measure

FINE, COARSE, STUDENT = Metrics(0.30, 1.0, 1.0), Metrics(1.2, 1.0, 0.5), Metrics(0.32, 1.0, 0.9)


@pytest.mark.parametrize("small", [False, True])
def test_a_student_that_learns_nothing_or_collapses_is_out_of_bounds(small):
    assert check_bounds(distillation_bounds(FINE, COARSE, STUDENT, small=small))[1]
    for wrong in ({"frechet": 2.0}, {"accuracy": 0.9}, {"variance": 0.2}, COARSE._asdict()):
        assert not check_bounds(distillation_bounds(FINE, COARSE, STUDENT._replace(**wrong), small=small))[1]


def test_each_kind_of_wrong_digits_shows_in_a_metric():
    train, held_out = load_digit_images()
    real = measure(train, train, held_out)
    collapsed = np.stack([held_out.images[held_out.labels == label].mean(axis=0) for label in held_out.labels])
    assert real.frechet < 0.25 and real.accuracy == 1.0 and 0.9 < real.variance < 1.1
    assert measure(Digits(collapsed, held_out.labels), train, held_out).variance < 1e-6
    assert measure(Digits(train.images, train.labels[::-1]), train, held_out).accuracy < 0.5
    assert measure(Digits(-train.images, train.labels), train, held_out).frechet > 10
