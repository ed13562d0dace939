"""Import the packages that are compared before the tests do, without their warnings.

k-diffusion imports modules for augmentation and evaluation that need twenty more packages. The comparisons need four
modules only, which name functions of torchvision that nothing calls.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from types import ModuleType

IMAGES = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
FASTGEN = "modelopt.torch.fastgen"


def import_parts_of_k_diffusion() -> None:
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("k-diffusion, which `nox -s interop` installs")
    package = ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["k_diffusion"] = package
    sys.modules.update({name: ModuleType(name) for name in IMAGES})
    for name in ("sampling", "external", "layers", "utils"):
        importlib.import_module(f"k_diffusion.{name}")
    for name in IMAGES:  # other packages check whether torchvision is installed
        del sys.modules[name]


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import_parts_of_k_diffusion()
    for name in ("flow_matching.path", "flow_matching.solver", "torchcfm.conditional_flow_matching"):
        importlib.import_module(name)
    for name in ("flow_matching", "methods.dmd", "pipeline", "utils"):
        importlib.import_module(f"{FASTGEN}.{name}")
