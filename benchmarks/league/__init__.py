"""Hypergradients of several libraries against closed forms: `python -m benchmarks.league`."""
