"""Speed of the formulas and of the code that users would run instead: ``python -m tests.benchmarks``.

``cases`` has the cases, ``baselines`` the implementations; ``measure`` measures, ``report`` shows the results. No
result makes anything fail.
"""
