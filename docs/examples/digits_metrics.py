"""The data of the programs on digits, the metrics of generated digits, the bounds of these metrics, and the picture.

This module contains no training and no flow. The programs that generate the digits do.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pictures import save_light_and_dark
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

CLASSES, SIDE = 10, 8
PIXELS = SIDE * SIDE
PIXEL_VARIANCE = 0.17  # variance of a digit's pixels around the mean of its class


class Digits(NamedTuple):
    """Images, shape (N, 64), pixels in [-1, 1], and their labels, shape (N,)."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


class Metrics(NamedTuple):
    """The metrics of a set of samples."""

    frechet: float
    accuracy: float
    variance: float


class Bound(NamedTuple):
    """A metric, and the interval that it must be in."""

    name: str
    value: float
    low: float
    high: float


def load_digit_images() -> tuple[Digits, Digits]:
    """Split scikit-learn's digits into 1,197 to train on and 600 held out, stratified by class."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 8 - 1).astype(np.float32)
    x_train, x_held_out, y_train, y_held_out = train_test_split(
        images, labels, test_size=600, stratify=labels, random_state=0
    )
    return Digits(x_train, y_train), Digits(x_held_out, y_held_out)


def frechet_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Compute ``|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))``, m mean, C covariance."""
    shift = a.mean(axis=0) - b.mean(axis=0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # The eigenvalues of a product of two covariance matrices are real and >= 0, except for rounding errors.
    roots = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(min=0))
    return float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * roots.sum())


def within_class_variance(digits: Digits) -> float:
    """Sum the pixels' variances within each class, and average over the classes."""
    by_class = (digits.images[digits.labels == label] for label in range(CLASSES))
    return float(np.mean([images.var(axis=0).sum() for images in by_class]))


def measure(samples: Digits, train: Digits, held_out: Digits) -> Metrics:
    """Compare samples with held-out digits. The PCA and the classifier are fitted to the training digits.

    No metric is sufficient alone: a collapsed generator has perfect accuracy and no variance.
    """
    pca = PCA(32, random_state=0).fit(train.images)
    classifier = SVC(C=10).fit(train.images, train.labels)
    return Metrics(
        frechet=frechet_distance(pca.transform(samples.images), pca.transform(held_out.images)),
        accuracy=float(classifier.score(samples.images, samples.labels)),
        variance=within_class_variance(samples) / within_class_variance(held_out),
    )


def show_metrics(metrics: Mapping[str, Metrics]) -> str:
    """Return a table with a line for each generator."""
    head = f"{'':24}{'Frechet distance':>18}{'class accuracy':>16}{'variance ratio':>16}"
    rows = (f"{name:24}{m.frechet:18.3f}{m.accuracy:16.3f}{m.variance:16.3f}" for name, m in metrics.items())
    return "\n".join([head, *rows])


def check_bounds(bounds: Iterable[Bound]) -> tuple[str, bool]:
    """Return a line of text for each bound, and whether all of them hold."""
    bounds = list(bounds)
    # NaN is outside of every interval.
    verdicts = [bound.low <= bound.value <= bound.high for bound in bounds]
    lines = (
        f"{'ok' if held else 'FAILED':8}{bound.name:37}{bound.value:7.3f}  in [{bound.low:.2f}, {bound.high:.2f}]"
        for held, bound in zip(verdicts, bounds, strict=True)
    )
    return "\n".join(lines), all(verdicts)


def distillation_bounds(fine: Metrics, coarse: Metrics, student: Metrics, *, small: bool) -> list[Bound]:
    """Return the bounds for a teacher with 50 steps (fine) and with 2 steps (coarse), and for a 2-step student."""
    if small:  # The training ends long before it converges.
        return [
            Bound("teacher at 50: Frechet distance", fine.frechet, 0.0, 0.80),
            Bound("student / teacher at 2", student.frechet / coarse.frechet, 0.0, 0.95),
            Bound("student: class accuracy", student.accuracy, 0.96, 1.0),
            Bound("student: variance ratio", student.variance, 0.40, 1.20),
        ]
    return [
        Bound("teacher at 50: Frechet distance", fine.frechet, 0.0, 0.45),
        Bound("student: Frechet distance", student.frechet, 0.0, 0.50),
        Bound("student / teacher at 2", student.frechet / coarse.frechet, 0.0, 0.70),
        Bound("student / teacher at 50", student.frechet / fine.frechet, 0.0, 1.50),
        Bound("student: class accuracy", student.accuracy, 0.98, 1.0),
        Bound("student: variance ratio", student.variance, 0.70, 1.20),
    ]


def one_of_each_class(digits: Digits) -> NDArray[np.float32]:
    """Return the first image of each class in one row of pixels, with an empty column after each image."""
    first = np.stack([digits.images[digits.labels == label][0].reshape(SIDE, SIDE) for label in range(CLASSES)])
    padded = np.pad(first, ((0, 0), (0, 0), (0, 1)), constant_values=np.nan)
    return padded.transpose(1, 0, 2).reshape(SIDE, -1)


def draw_rows(generators: Mapping[str, Digits], metrics: Mapping[str, Metrics], accent: str) -> Figure:
    """Draw a row for each generator: its name, ten digits, and a bar for the distance to held-out real digits."""
    figure, axes = plt.subplots(len(generators), 2, figsize=(7, 2.5), width_ratios=(1.6, 1))
    longest = max(m.frechet for m in metrics.values())
    for (left, right), (name, digits) in zip(axes, generators.items(), strict=True):
        left.imshow(one_of_each_class(digits), cmap="gray", vmin=-1, vmax=1)
        left.set_ylabel(name, rotation=0, ha="right", va="center")
        color = "C4" if "real" in name else "C1" if accent in name else "C0"
        right.bar_label(right.barh([0], [metrics[name].frechet], color=color), fmt=" %.2f")
        right.set_xlim(0, 1.3 * longest)
        for ax in (left, right):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
    axes[0, 1].set_title("Fréchet distance", loc="left")
    return figure


def save_rows(generators: Mapping[str, Digits], metrics: Mapping[str, Metrics], path: Path, accent: str) -> None:
    """Save the rows as a picture. The bars of the names that contain ``accent`` stand out."""
    save_light_and_dark(lambda: draw_rows(generators, metrics, accent), path)
