"""Error messages under torch.compile: Dynamo's exception contains ours, whatever changes from call to call."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import fastgen_rf as rf
from fastgen_rf._tracing import fixed, lies_in, shown

pytestmark = pytest.mark.skipif(torch.__version__ < "2.11", reason="Dynamo's exception showed no message in 2.8")

CFG = rf.SampleTimestepConfig()
FOUR, FIVE, SIX = torch.ones(4, 3), torch.ones(5, 3), torch.ones(6, 3)

# A function, what a first good call takes, and what a bad call takes that differs in value or size.
CASES: dict[str, tuple[Any, tuple[Any, ...], tuple[Any, ...]]] = {
    "t's shape": (rf.add_noise, (FOUR, FOUR, torch.ones(4)), (FIVE, FIVE, torch.ones(6))),
    "one axis": (rf.add_noise, (torch.ones(4),) * 3, (torch.ones(5), torch.ones(5), torch.ones(6))),
    "two shapes": (rf.add_noise, (FOUR, FOUR, 0.5), (FIVE, SIX, 0.5)),
    "expand_like": (rf.expand_like, (torch.ones(4), FOUR), (torch.ones(5), SIX)),
    "axes": (lambda x, y, a: rf.expand_like(x, y, axes=a), (torch.ones(4), FOUR, (0,)), (torch.ones(5), FIVE, (7,))),
    "t's dtype": (rf.add_noise, (FOUR, FOUR, torch.ones(4)), (FIVE, FIVE, torch.ones(5, dtype=torch.int64))),
    "device": (rf.add_noise, (FOUR, FOUR, 0.5), (FIVE, FIVE.to("meta"), 0.5)),
    "framework": (rf.add_noise, (FOUR, FOUR, 0.5), (FIVE, FIVE, np.ones(5))),
    "float t": (rf.add_noise, (FOUR, FOUR, 0.5), (FIVE, FIVE, 1.5)),
    "int t": (rf.add_noise, (FOUR, FOUR, 1), (FIVE, FIVE, 500)),
    "shift": (rf.shift_timesteps, (torch.ones(4), 2.0), (torch.ones(5), -3.0)),
    "tokens": (lambda x, n: x * rf.resolution_shift(n), (FOUR, 256), (FIVE, 10**9)),
    "anchors": (lambda x, n: x * rf.resolution_shift(9, base_tokens=n), (FOUR, 256), (FIVE, 4096)),
    "steps": (lambda x, n: x * rf.make_t_list(n)[0], (FOUR, 3), (FIVE, 0)),
    "n": (lambda x, n: x * rf.sample_timesteps((n, 3), CFG, xp=torch), (FOUR, 4), (FIVE, -5)),
    "n a float": (lambda x, n: x * rf.sample_timesteps(n, CFG, xp=torch), (FOUR, 3), (FIVE, 2.5)),
    "equal": (lambda x, e: rf.sample_timestep_pairs(3, CFG, equal=e, xp=torch), (FOUR, 0.3), (FIVE, 2.5)),
    "time": (lambda x, s: x * rf.convert_time(s, source="sigma", target="rf"), (FOUR, 0.3), (FIVE, -2.5)),
    "u": (lambda x, u: x * rf.timestep_quantile(u, CFG), (FOUR, 0.3), (FIVE, 2.5)),
    "t_list": (lambda x, r: rf.sample_from_t_list(3, r, xp=torch), (FOUR, [1.0, 0.5, 0.0]), (FIVE, [0.5, 1.0])),
    "a field": (lambda x, s: x * rf.SampleTimestepConfig(p_std=s).p_std, (FOUR, 0.3), (FIVE, -2.5)),
}


@pytest.mark.parametrize("name", CASES)
def test_dynamo_s_exception_contains_the_message(name: str) -> None:
    call, good, bad = CASES[name]
    with pytest.raises((TypeError, ValueError)) as eager:
        call(*bad)
    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="eager")
    compiled(*good)
    with pytest.raises(torch._dynamo.exc.Unsupported) as traced:
        compiled(*bad)
    assert str(eager.value) in str(traced.value)


def test_a_tensor_as_a_number_is_named_by_its_type() -> None:
    with pytest.raises(torch._dynamo.exc.Unsupported, match="shift must be a real number, got Tensor"):
        torch.compile(rf.shift_timesteps, fullgraph=True, backend="eager")(FOUR, torch.tensor(3.0))


def test_what_dynamo_runs_is_right_as_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coverage sees nothing of a trace: here the same lines run eagerly, told that they are traced."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    values = (0.1, 2, True, None, "a", [1.5], (), np.array(0.5), FOUR)
    assert shown(values) == "(0.1, 2, True, None, 'a', (1.5,), (), 0.5, Tensor)"
    numbers = [0.1, -3, 0, math.inf, math.nan, True]
    assert list(map(repr, map(fixed, numbers))) == list(map(repr, numbers))
    assert [lies_in(x, 0.0, 1.0) for x in (0.0, 1.0, -1e-9, 1.1, math.nan)] == [True, True, False, False, False]
    assert rf.convert_time(np.array(np.float32(math.pi / 2)), source="angle", target="rf") == 1.0
