"""NumPy's, for array_api_compat to import: the library calls none of it."""

from numpy.fft import *  # noqa: F403
