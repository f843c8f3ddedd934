"""How long things take, and how much faster than plain code: `python -m benchmarks`."""
