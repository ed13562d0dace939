"""``python -m tests.promises.ulps``: how far every formula is from NumPy's bits, for each framework here and dtype.

NumPy's are those of the written formula in IEEE float64 and one cast, which the tests hold against exact arithmetic.
All formulas are called at a time for each row. Printed are the largest distance in units in the last place, and how
many of a million elements are off at all.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from unittest import mock

import numpy as np

from tests.cases.without_float64 import ARRAY_TIMES, CALLS, arrays

with suppress(ImportError):
    import ml_dtypes  # noqa: F401  # gives NumPy its bfloat16

DTYPES = ("float64", "float32", "bfloat16", "float16")
INTEGERS = {8: np.int64, 4: np.int32, 2: np.int16}
Results = list[Any]
Evaluator = Callable[[list[Any]], Results]
WITHOUT = "{}, as if without float64"


def every_call(*inputs: Any) -> Results:
    return [call(*inputs) for call in CALLS.values()]


def inputs(dtype: str, copies: int = 1) -> list[Any]:
    """Two arrays of 25,600 elements, or so many times as many, and a time for each row, as NumPy's."""
    first, second = (np.tile(array, copies) for array in arrays((1.0, 1.0)))
    return [array.astype(np.dtype(dtype)) for array in (first, second, ARRAY_TIMES["ordinary"])]


def evaluators() -> Iterator[tuple[str, Evaluator]]:
    """Ways to run the formulas that this machine offers, by NumPy's arrays to NumPy's arrays."""
    if importlib.util.find_spec("torch"):
        yield from _by_torch()
    if importlib.util.find_spec("jax"):
        yield from _by_jax()
    if importlib.util.find_spec("array_api_strict"):
        xp = importlib.import_module("array_api_strict")
        for device in ("CPU_DEVICE", "no_float64"):
            yield f"array-api-strict, {device}", _by_standard(xp, xp.Device(device))


def _by_torch() -> Iterator[tuple[str, Evaluator]]:
    import torch

    from fastgen_rf.backends._torch import TorchBackend

    def run(host: list[Any], device: str, function: Any = every_call) -> Results:
        return [of_torch(x) for x in function(*(to_torch(x).to(device) for x in host))]

    def without(host: list[Any]) -> Results:
        with mock.patch.object(TorchBackend, "has_float64", lambda self, device: False):
            return run(host, "cpu")

    compiled = torch.compile(every_call, fullgraph=True)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        yield f"PyTorch, {device}", lambda host, device=device: run(host, device)
        yield f"PyTorch, {device}, compiled", lambda host, device=device: run(host, device, compiled)
    yield WITHOUT.format("PyTorch"), without


def to_torch(host: Any) -> Any:
    import torch

    if host.dtype.name == "bfloat16":
        return torch.from_numpy(host.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(host)


def of_torch(tensor: Any) -> Any:
    import torch

    if tensor.dtype == torch.bfloat16:
        return tensor.cpu().view(torch.int16).numpy().view(np.dtype("bfloat16"))
    return tensor.cpu().numpy()


def _by_jax() -> Iterator[tuple[str, Evaluator]]:
    import jax

    from fastgen_rf.backends._jax import JaxBackend

    def run(host: list[Any], function: Any = every_call) -> Results:
        with jax.enable_x64(True):
            placed = [jax.numpy.asarray(x) for x in host]
        return [np.asarray(x) for x in function(*placed)]

    def without(host: list[Any]) -> Results:
        with mock.patch.object(JaxBackend, "has_float64", lambda self, device: False):
            return run(host)

    platform = jax.devices()[0].platform
    yield f"JAX, {platform}", run
    yield f"JAX, {platform}, all in one `jit`", lambda host: run(host, jax.jit(every_call))
    yield WITHOUT.format("JAX"), without


def _by_standard(xp: Any, device: Any) -> Evaluator:
    def run(host: list[Any]) -> Results:
        placed = [xp.asarray(x, dtype=getattr(xp, x.dtype.name), device=device) for x in host]
        return [np.from_dlpack(x) for x in every_call(*placed)]

    return run


def off(got: Results, wanted: Results) -> tuple[int, float]:
    """The largest distance in ulps, and how many of a million elements differ."""
    largest, differ, elements = 0, 0, 0
    for ours, numpy in zip(got, wanted, strict=True):
        if ours.dtype != numpy.dtype:
            raise TypeError(f"{ours.dtype} for {numpy.dtype}")
        distance = np.abs(_ordinal(ours) - _ordinal(numpy))
        largest = max(largest, int(distance.max()))
        differ, elements = differ + int(np.count_nonzero(distance)), elements + distance.size
    return largest, 1e6 * differ / elements


def _ordinal(array: Any) -> Any:
    """Rank of each number among those of its dtype, zero for both zeros."""
    bits = np.ascontiguousarray(array).view(INTEGERS[array.dtype.itemsize]).astype(np.int64)
    return np.where(bits < 0, np.iinfo(INTEGERS[array.dtype.itemsize]).min - bits, bits)


def main() -> None:
    print("| | " + " | ".join(DTYPES) + " |\n" + "| --- " * (len(DTYPES) + 1) + "|")
    for title, run in evaluators():
        cells = [_measured(run, dtype) if _has(title, dtype) else "" for dtype in DTYPES]
        print(f"| {title} | " + " | ".join(cells) + " |", flush=True)


def _has(title: str, dtype: str) -> bool:
    if title.startswith("array-api-strict") and dtype in ("bfloat16", "float16"):
        return False
    return dtype != "float64" or not title.endswith(("without float64", "no_float64"))


def _measured(run: Evaluator, dtype: str) -> str:
    largest, share = off(run(inputs(dtype)), every_call(*inputs(dtype)))
    return f"{largest}, {share:.3g} in 10⁶" if largest else "0"


if __name__ == "__main__":
    main()
