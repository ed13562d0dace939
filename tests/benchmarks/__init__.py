"""How fast the formulas run, side by side with what a user would run instead: ``python -m tests.benchmarks``.

``cases`` says what is measured, ``contenders`` who takes part, ``timing`` and ``memory`` how it is measured, ``report``
and ``chart`` show it. A figure never fails anything: tests of behaviour live next door.
"""
