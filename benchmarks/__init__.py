"""The figures of docs/benchmarks.md: one module a figure, run by `python -m benchmarks`."""
