"""The names that tests on every framework go through: predictions and their thirty pairs, and the laws."""

from __future__ import annotations

from itertools import permutations

import pytest

KINDS = ("x0", "eps", "flow", "v", "score", "v_vp")
PAIRS = list(permutations(KINDS, 2))
every_pair = pytest.mark.parametrize(("source", "target"), PAIRS, ids=["-".join(pair) for pair in PAIRS])

PUBLISHED = ("uniform", "logitnormal", "lognormal", "shifted", "polynomial")  # FastGen's
LAWS = (*PUBLISHED, "shifted_logitnormal", "mode", "cosmap", "beta", "loguniform")
every_law = pytest.mark.parametrize("law", LAWS)
every_published_law = pytest.mark.parametrize("law", PUBLISHED)
