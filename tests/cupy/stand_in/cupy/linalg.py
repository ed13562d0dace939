"""NumPy's, for array_api_compat to import: the library calls none of it."""

from numpy.linalg import *  # noqa: F403
