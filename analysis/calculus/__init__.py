"""The algebra beneath the results: symbols, matrices, normal forms, stationary points, numbers."""
