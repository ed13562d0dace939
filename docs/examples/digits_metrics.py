"""The digits, and how generated ones are judged: data, figures, bounds and picture.

Nothing is trained on noise here and nothing knows of flows or frameworks: the programs that generate do.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

CLASSES, SIDE = 10, 8
PIXELS = SIDE * SIDE
PIXEL_VARIANCE = 0.17  # of a digit's pixels about the mean of its class


class Digits(NamedTuple):
    """Images, shape (N, 64), pixels in [-1, 1], and their labels, shape (N,)."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


class Figures(NamedTuple):
    """What is measured of a set of samples."""

    frechet: float
    accuracy: float
    variance: float


class Bound(NamedTuple):
    """A figure, and between what it has to lie."""

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
    # The eigenvalues of a product of two covariances are real and >= 0, up to rounding.
    roots = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(min=0))
    return float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * roots.sum())


def within_class_variance(digits: Digits) -> float:
    """Sum the pixels' variances within each class, and average over the classes."""
    by_class = (digits.images[digits.labels == label] for label in range(CLASSES))
    return float(np.mean([images.var(axis=0).sum() for images in by_class]))


def measure(samples: Digits, train: Digits, held_out: Digits) -> Figures:
    """Judge samples against held-out digits; what judges is fitted to the training digits.

    Each figure alone can be fooled: a collapsed generator has perfect accuracy and no variance.
    """
    pca = PCA(32, random_state=0).fit(train.images)
    classifier = SVC(C=10).fit(train.images, train.labels)
    return Figures(
        frechet=frechet_distance(pca.transform(samples.images), pca.transform(held_out.images)),
        accuracy=float(classifier.score(samples.images, samples.labels)),
        variance=within_class_variance(samples) / within_class_variance(held_out),
    )


def show_figures(figures: Mapping[str, Figures]) -> str:
    """Lay the figures out as a table, one generator a line."""
    head = f"{'':24}{'Frechet distance':>18}{'class accuracy':>16}{'variance ratio':>16}"
    rows = (f"{name:24}{f.frechet:18.3f}{f.accuracy:16.3f}{f.variance:16.3f}" for name, f in figures.items())
    return "\n".join([head, *rows])


def check_bounds(bounds: Iterable[Bound]) -> tuple[str, bool]:
    """Return a line of text for each bound, and whether all of them hold."""
    bounds = list(bounds)
    # A NaN lies within no bounds.
    verdicts = [bound.low <= bound.value <= bound.high for bound in bounds]
    lines = (
        f"{'ok' if held else 'FAILED':8}{bound.name:37}{bound.value:7.3f}  in [{bound.low:.2f}, {bound.high:.2f}]"
        for held, bound in zip(verdicts, bounds, strict=True)
    )
    return "\n".join(lines), all(verdicts)


def distillation_bounds(fine: Figures, coarse: Figures, student: Figures, *, small: bool) -> list[Bound]:
    """Name what a teacher at 50 steps (fine), at as few as the student (coarse), and the student are held to."""
    if small:  # both are far from done, and only on their way
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


def tile(digits: Digits, rows: int, columns: int) -> NDArray[np.float32]:
    """Lay the first few images of the first few classes out as one image, a class a row, a pixel apart."""
    canvas = np.full((rows * (SIDE + 1) - 1, columns * (SIDE + 1) - 1), np.nan, np.float32)
    for row in range(rows):
        for column, image in enumerate(digits.images[digits.labels == row][:columns]):
            top, left = row * (SIDE + 1), column * (SIDE + 1)
            canvas[top : top + SIDE, left : left + SIDE] = image.reshape(SIDE, SIDE)
    return canvas


def draw_panels(panels: Mapping[str, Digits], figures: Mapping[str, Figures], path: Path, accent: str) -> None:
    """Draw four sets of digits, each under its name, and below them how far each lies from real digits.

    The bars of names with ``accent`` in them stand out.
    """
    plt.style.use(Path(__file__).with_name("both_grounds.mplstyle"))
    picture = plt.figure(figsize=(7, 7.2))
    picture.get_layout_engine().set(w_pad=0.12)
    above, below = picture.subfigures(2, 1, height_ratios=(5.4, 1.8))
    for ax, (name, digits) in zip(above.subplots(2, 2).ravel(), panels.items(), strict=True):
        ax.imshow(tile(digits, rows=5, columns=8), cmap="gray", vmin=-1, vmax=1)
        ax.set_title(name)
        ax.set_axis_off()
    ax = below.subplots()
    distances = [f.frechet for f in figures.values()]
    colors = ["#7a8089" if "real" in name else "#d1603d" if accent in name else "#2f81c7" for name in figures]
    ax.bar_label(ax.barh(list(figures), distances, color=colors), fmt=" %.2f")
    ax.invert_yaxis()
    ax.set_xlim(0, 1.15 * max(distances))
    ax.set_xlabel("Fréchet distance to held-out real digits: lower is better")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path)
