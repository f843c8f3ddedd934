"""Training on a reward: objectives, estimators of their gradients, inner solvers, ensembles."""
