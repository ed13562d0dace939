"""The part of CuPy's ``cupyx`` that the stand-in has: see the stand-in for ``cupy``."""
