"""``python -m tests.devices.compiled_words``: every formula without float64, compiled by inductor, against float64's.

Each is compiled for an array t and a float t, in float32 and in bfloat16 or float16, beside ``a b + a``, which shows
that the same compiler contracts. Ends with an error if it does not, or if more than 1 element in 100,000 differs.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from unittest import mock

import numpy as np
import torch
import torch._inductor.config as inductor

from fastgen_rf.backends._torch import TorchBackend
from tests.cases.without_float64 import ARRAY_TIMES, CALLS, arrays, off, wanted

CONTRACTING = {
    "cpp.enable_floating_point_contract_flag": "fast",
    "realize_opcount_threshold": 6,  # else what is made of t is written out wherever it is used: minutes a formula
    "compile_threads": 1,
}
KINDS = [
    (torch.float32, ARRAY_TIMES["ordinary"]),
    (torch.float32, 0.3),
    (torch.bfloat16, ARRAY_TIMES["ordinary"]),
    (torch.float16, 0.3),
]


def main() -> None:
    """Compile and compare, in as many processes as there are cores."""
    from tqdm import tqdm  # which the tests that compare do without

    differ = count = 0
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), spawned, torch.set_num_threads, (1,)) as pool:
        runs = [pool.submit(compare, call, kind) for kind, call in product(range(len(KINDS)), CALLS)]
        for run in tqdm(as_completed(runs), total=len(runs), unit="formula", dynamic_ncols=True):
            call, kind, apart, size, contracted = run.result()
            differ, count = differ + apart, count + size
            if apart or contracted < 0.1 * size:
                tqdm.write(f"{call}, {KINDS[kind]}: {apart} of {size} differ, {contracted} contracted")
            if contracted < 0.1 * size:
                raise SystemExit("the compiler does not contract")
    print(f"{differ} of {count:,} elements differ, in {len(runs)} compiled functions")
    if differ > count // 100_000:
        raise SystemExit(1)


def compare(call: str, kind: int) -> tuple[str, int, int, int, int]:
    """How many elements differ from float64's and how many, and in how many the compiler contracts ``a b + a``."""
    dtype, t = KINDS[kind]
    first, second = (torch.from_numpy(array).to(dtype) for array in arrays((1.0, 1.0)))
    factors = [torch.from_numpy(array) for array in arrays((1.0, 1.0))]

    def both(first, second, t, a, b):  # type: ignore[no-untyped-def]
        return CALLS[call](first, second, t), a * b + a

    torch.compiler.reset()
    with mock.patch.object(TorchBackend, "has_float64", lambda self, device: False), inductor.patch(CONTRACTING):
        compiled = torch.compile(both, fullgraph=True, dynamic=False)
        got, control = compiled(first, second, t if isinstance(t, float) else torch.from_numpy(t), *factors)
    with np.errstate(all="ignore"):
        want = torch.from_numpy(wanted(call, first.float().numpy(), second.float().numpy(), t)).to(dtype)
    a, b = (factor.numpy() for factor in factors)
    return call, kind, off(got.float().numpy(), want.float().numpy()), got.numel(), off(control.numpy(), a * b + a)


if __name__ == "__main__":
    main()
