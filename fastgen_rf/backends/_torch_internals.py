"""Every look at PyTorch's private names: who else follows the operations on a tensor, and how sizes are compared.

The names may disappear with any release of PyTorch, so none of them is needed: a function that returns True replaces a
missing name. The callers then assume that something follows the operations, and use plain tensor operations, which are
slower, and correct in every case.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import torch


def _private(path: str) -> Any:
    """Look up a function below ``torch``; the one returned for a missing name returns True."""
    try:
        return attrgetter(path)(torch)
    except AttributeError:
        return lambda *_: True


# Whether a ``TorchDispatchMode`` sees each operation (FakeTensorMode, make_fx, a counter of operations), whether a
# ``TorchFunctionMode`` sees each call of torch, and whether a transform of ``torch.func`` is active (vmap, grad, jvp).
in_dispatch_mode = _private("_C._len_torch_dispatch_stack")
in_function_mode = _private("_C._len_torch_function_stack")
in_transform = _private("_C._are_functorch_transforms_active")
# Whether a tensor belongs to the vmap of ``autograd.grad(is_grads_batched=True)``, and whether it is a zero without
# memory, as forward mode makes them.
in_old_vmap = _private("_C._functorch.is_legacy_batchedtensor")
is_zero_tensor = _private("_is_zerotensor")
_is_in_dispatch_mode_before_autograd = _private("_ops._len_torch_dispatch_stack_pre_dispatch")
_is_tracing = _private("_C._is_tracing")


def follows(*operands: Any) -> bool:
    """Whether something else than autograd or a mode follows operations on these tensors and floats.

    That is a transform of ``torch.func``, forward mode, ``torch.jit.trace``, a trace above autograd or the old vmap.
    """
    return bool(
        in_transform()
        or getattr(torch.autograd.forward_ad, "_current_level", 0) >= 0
        or _is_tracing()
        or _is_in_dispatch_mode_before_autograd()
        or any(isinstance(x, torch.Tensor) and in_old_vmap(x) for x in operands)
    )


def guard_or_true(condition: Any) -> Any:
    """Decide a comparison of sizes or numbers under a compiler; True if that has to wait until the call.

    PyTorch before 2.8 lacks the function: there the condition itself is returned, whose bool() is not traced.
    """
    # Imported here, because it imports sympy, which takes 0.3 s. A compiler has already imported it.
    import torch.fx.experimental.symbolic_shapes as shapes

    return shapes.guard_or_true(condition) if hasattr(shapes, "guard_or_true") else condition
