"""Hypergradients: the gradient of the outer objective through the inner solution."""
