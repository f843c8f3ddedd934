"""The numerical side, in PyTorch: train a policy on a reward, choose the reward, say how well.

The inner problem, `θ*(φ) = argmax_θ J(θ, φ)`:

- `families`: the laws that policies return, one file each; `families.networks` their bodies
- `data`: outcomes grouped by distinct input; `tasks`: where they come from
- `rewards`: `mahalanobis`, `between_classes`, `bounded`; `learnable` ones have parameters
- `training`: `objectives`, `estimators` of their gradients, `inner` solvers (a `Solution` each),
  `ensemble` (many members in one batched run) and its random `streams`

The outer problem, `max_φ F(θ*(φ), φ)`:

- `hypergradients`: `implicit`, `unrolled`, `penalty`; `functional` in the outputs of the policy;
  `differentiable`, the inner solution as a function that can be differentiated
- `bilevel`: the outer `loop`, `single_loop`; `likelihood`: the paper's problem, its plug-in

What knows no policy: `numerics` (searches, linear systems, containers of tensors, checkpoints).

What each solver accepts as inner problem; the rest is refused with a message that says why:

- `training.inner.closed_form`: an unrestricted Gaussian policy, a Mahalanobis reward
- `rewards.bounded.inner_solution`: an isotropic policy, Gaussian data, `λ < critical_lam`
- `training.inner.gradient`, `second_order`: one member, a deterministic objective
- `training.ensemble.train`: any objective, sampled ones too, batches of members
- `hypergradients.implicit.implicit`: `J` strictly concave near `θ`; elsewhere only with `damping`
- `hypergradients.unrolled.unrolled`, `penalty.penalty`: the same, but no linear system is solved
- `hypergradients.functional.functional`: a Gaussian policy with any network, outer data at inner
  inputs
- `hypergradients.differentiable.inner_solution`: a strict maximum, some hundreds of inner
  parameters
- `bilevel.loop.solve`, `bilevel.single_loop.single_loop`: any `J` and `F`; sampled inner
  gradients in the first
- `bilevel.likelihood.problem`: a Gaussian policy; rewards that depend on the input without sampling
- `bilevel.class_likelihood.problem`: a categorical policy, any reward between classes, a weight
  decay > 0
"""
