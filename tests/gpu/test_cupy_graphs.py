"""CuPy: a call can be captured in a CUDA graph, for it never waits for the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.catalogue import REPRESENTATIVE, ROWS


@pytest.mark.backends("cupy")
@pytest.mark.parametrize("name", REPRESENTATIVE)
@pytest.mark.parametrize("t", [0.3, [0.1, 0.5, 0.9]], ids=["float", "array"])
def test_a_cuda_graph_captures_a_call(xp: Any, name: str, t: Any) -> None:
    cupy, row = xp.namespace, ROWS[name]
    host = list(np.random.default_rng(0).standard_normal((2, 3, 4, 5), np.float32))
    arguments = [*map(cupy.asarray, host), t if isinstance(t, float) else cupy.asarray(t)]
    row(*arguments)  # compiles the kernel
    cupy.cuda.get_current_stream().synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        result = row(*arguments)
        stream.end_capture().launch(stream)
    stream.synchronize()
    assert np.array_equal(cupy.asnumpy(result), row(*host, t if isinstance(t, float) else np.asarray(t)))
