"""Latents on disk: the program in a reduced size; wrong values and too much memory are noticed."""

from __future__ import annotations

import re

import dask.array as da
import noise_on_disk
import numpy as np
from digits_metrics import check_bounds


def test_the_program_meets_its_bounds_in_a_reduced_size(start, tmp_path):
    printed = start("noise_on_disk.py", "--small", "--folder", str(tmp_path))
    peaks = [float(peak) for peak in re.findall(r"worker \d: peak, MB +([\d.]+)", printed)]
    assert len(peaks) == 2 and min(peaks) > 50
    assert not list(tmp_path.iterdir())  # The latents are deleted.


def test_too_small_a_file_too_much_memory_and_wrong_values_are_out_of_bounds():
    assert check_bounds(noise_on_disk.bounds(2000, 500, [300, 300], 0))[1]
    for megabytes, peaks, wrong in ((999, [300, 300], 0), (2000, [300, 501], 0), (2000, [300, 300], 1)):
        assert not check_bounds(noise_on_disk.bounds(megabytes, 500, peaks, wrong))[1]


def test_a_wrong_value_is_counted():
    shape = (16 * noise_on_disk.PIECE, *noise_on_disk.SHAPE[:1], 6, 8)
    x0, eps = (np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) for seed in (0, 1))
    t = np.random.default_rng(2).random(len(x0), dtype=np.float32)
    x_t = noise_on_disk.add_noise(x0, eps, t)
    arrays = [da.from_array(array) for array in (x0, eps, t)]
    assert noise_on_disk.wrong_values(*arrays, da.from_array(x_t)) == 0
    x_t[noise_on_disk.PIECE - 1, 3, 5, 7] *= 1 + 2**-23
    assert noise_on_disk.wrong_values(*arrays, da.from_array(x_t)) == 1
