"""Where CuPy has its class, and array_api_compat looks for it."""

from cupy.cuda import Device

__all__ = ["Device"]
