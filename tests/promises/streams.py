"""``python -m tests.promises.streams``: write the draws of a seed, for each framework here, into ``streams.json``.

A stream is what a seed draws: of a framework, and from one of its versions on. An entry holds for its version and all
later ones, up to the next entry, so a framework that keeps its stream needs no new one. Where draws differ from what
the file has for the installed version, the command adds an entry from that version on; the test that compares fails
until then, and says so. A change of ours shows as one too: then it is the code that is wrong, or the changelog.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import re
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import fastgen_rf as rf
from fastgen_rf._laws import LAWS

FILE = Path(__file__).with_name("streams.json")
NAMESPACES = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy", "cupy": "cupy"}
SEED, LONG_SEED = 7, 2**70 + 7


def draws(xp: Any, **names: Any) -> dict[str, list[float]]:
    """Some draws of each law and sampler, as a framework makes them of a seed."""
    at = {"xp": xp} | names
    uniform = rf.SampleTimestepConfig("uniform")
    made = {law: rf.sample_timesteps(3, rf.SampleTimestepConfig(law), rng=SEED, **at) for law in LAWS}
    made["a long seed"] = rf.sample_timesteps(3, uniform, rng=LONG_SEED, **at)
    made["stratified"] = rf.sample_timesteps(3, uniform, rng=SEED, stratified=True, **at)
    made["t of pairs"], made["r of pairs"] = rf.sample_timestep_pairs(3, uniform, rng=SEED, equal=0.5, **at)
    made["rungs"] = rf.sample_from_t_list(3, (1.0, 0.75, 0.5, 0.25, 0.0), rng=SEED, **at)
    return {name: _rounded(t.tolist() if hasattr(t, "tolist") else np.asarray(t).tolist()) for name, t in made.items()}


def _rounded(values: list[float]) -> list[float]:
    """In the fewest digits that tell float32 numbers apart."""
    return [float(str(np.float32(value))) for value in values]


def without_float64(name: str, **names: Any) -> dict[str, list[float]]:
    """What a device without float64 draws, which takes other words of the generator."""
    backend = importlib.import_module(f"fastgen_rf.backends._{name}").BACKEND
    with mock.patch.object(type(backend), "has_float64", lambda self, device: False):
        return draws(importlib.import_module(NAMESPACES[name]), **names)


def version_of(name: str) -> tuple[int, ...]:
    return parsed(importlib.import_module(name).__version__)


def parsed(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version.partition("+")[0])[:3]))


def entry(stream: str, version: tuple[int, ...]) -> dict[str, Any]:
    """What the file has for a version: the last entry from it or from one before, else the first."""
    entries: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8")).get(stream, [])
    earlier = [found for found in entries if parsed(found["from"]) <= version]
    return (earlier or entries or [{}])[-1 if earlier else 0]


def main() -> None:
    written = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for name, namespace in NAMESPACES.items():
        if importlib.util.find_spec(name):
            found = {name: draws(importlib.import_module(namespace))}
            if name in ("torch", "jax"):
                found[f"{name} without float64"] = without_float64(name)
            for stream, made in found.items():
                if entry(stream, version_of(name)).get("draws") != made:
                    added = {"from": ".".join(map(str, version_of(name))), "draws": made}
                    kept = [old for old in written.get(stream, []) if old["from"] != added["from"]]
                    written[stream] = sorted([*kept, added], key=lambda each: parsed(each["from"]))
    text = json.dumps(written, indent=1)
    FILE.write_text(re.sub(r"\[\s+([\d.e, \s-]+?)\s+\]", _on_one_line, text) + "\n", encoding="utf-8")


def _on_one_line(numbers: re.Match[str]) -> str:
    return f"[{' '.join(numbers[1].split())}]"


if __name__ == "__main__":
    main()
