"""Speed, next to the code that users would run instead: ``python -m tests.benchmarks``. No result is a failure."""
