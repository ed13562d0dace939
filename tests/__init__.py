"""The test suite. CONTRIBUTING.md says which file tests what.

``test_MODULE.py`` tests ``fastgen_rf/MODULE.py`` on every framework, ``catalogue.py`` drives tests of all functions,
and ``backends`` has the tests that are about one framework. ``gpu`` is collected with ``--device cuda`` only;
``interop``, ``examples``, ``nvrtc`` and ``triton`` if the command line names them. ``benchmarks`` is a program.
"""
