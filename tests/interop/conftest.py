"""The packages that the pages compare, imported before the tests: without their warnings, and k-diffusion in parts.

k-diffusion imports all of its modules, those for augmentation and evaluation too, which take twenty packages more. What
the pages compare needs none of those, save that two functions of torchvision, which turn pictures into tensors, are
named.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
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


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Python's, on escape sequences, where a file is first compiled
    import_parts_of_k_diffusion()
    for name in ("flow_matching.path", "flow_matching.solver", "torchcfm.conditional_flow_matching"):
        importlib.import_module(name)
