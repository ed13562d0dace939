"""Streams: a seed draws what it drew when the file of draws was written, on each framework and for each law."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.promises import streams

WHAT_TO_DO = (
    "another stream than that of {stream} {version}: where the framework changed it, python -m tests.promises.streams "
    "adds an entry; where the library did, it is a change for every user"
)


def compare(stream: str, made: dict[str, list[float]], name: str) -> None:
    known = streams.entry(stream, streams.version_of(name))
    text = WHAT_TO_DO.format(stream=stream, version=known.get("from"))
    assert made.keys() == known["draws"].keys(), text
    for what, expected in known["draws"].items():
        # Special functions differ in their last bits between versions and processors: an ulp of float32 is no stream.
        np.testing.assert_allclose(made[what], expected, rtol=2**-23, atol=0, err_msg=f"{what}: {text}")


@pytest.mark.backends("numpy", "torch", "jax")
def test_a_seed_draws_what_it_drew(xp: Any) -> None:
    compare(xp.name, streams.draws(xp.namespace), xp.name)


@pytest.mark.backends("torch", "jax")
def test_a_seed_draws_what_it_drew_without_float64(xp: Any) -> None:
    compare(f"{xp.name} without float64", streams.without_float64(xp.name), xp.name)


@pytest.mark.backends("array_api_strict", "dask")
def test_other_namespaces_draw_numpy_s_stream(xp: Any) -> None:
    compare("numpy", streams.draws(xp.namespace), "numpy")


def test_an_entry_holds_until_the_next(tmp_path: Any, monkeypatch: Any) -> None:
    file = tmp_path / "streams.json"
    file.write_text('{"some": [{"from": "2.6"}, {"from": "2.13.0"}]}', encoding="utf-8")
    monkeypatch.setattr(streams, "FILE", file)
    found = {version: streams.entry("some", streams.parsed(version)) for version in ("2.5", "2.7.1", "2.13.0", "3.0")}
    assert [each["from"] for each in found.values()] == ["2.6", "2.6", "2.13.0", "2.13.0"]
