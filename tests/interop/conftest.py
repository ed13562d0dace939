"""k-diffusion's modules, imported without what it needs for training alone.

The package imports all of them, those for augmentation and evaluation too, which take twenty packages more. What the
pages compare needs none of those, save that two functions of torchvision are named which turn pictures into tensors.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

PICTURES = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")


def import_parts_of_k_diffusion() -> None:
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("k-diffusion, which `nox -s interop` installs")
    package = ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["k_diffusion"] = package
    sys.modules.update({name: ModuleType(name) for name in PICTURES})
    for name in ("sampling", "external", "layers", "utils"):
        importlib.import_module(f"k_diffusion.{name}")
    for name in PICTURES:  # others ask whether torchvision is there
        del sys.modules[name]


import_parts_of_k_diffusion()
