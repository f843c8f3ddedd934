"""The numerical side, in PyTorch: train a policy on a reward, and say how well it went.

- `policies`: Gaussian policies as small frozen objects, `policies.MLP` bodies
- `gaussian`: the law a policy returns; `data`: outcomes grouped by distinct input
- `rewards`: Mahalanobis rewards, and the optimal ones of the theory
- `estimators`, `objectives`: policy gradients, likelihood, squared error
- `inner`: closed-form and gradient solvers of the inner problem, returning a `Solution`
- `ensemble`: many members trained in one batched run; `streams`: their random numbers
- `tasks`: where the data come from
"""
