"""The numerical side, in PyTorch: train a policy on a reward, choose the reward, say how well.

The inner problem, `θ*(φ) = argmax_θ J(θ, φ)`:

- `policies`: Gaussian policies as small frozen objects, `policies.MLP` bodies
- `gaussian`: the law a policy returns; `data`: outcomes grouped by distinct input
- `rewards`: Mahalanobis rewards, and the optimal ones of the theory; `bounded_reward`;
  `learnable`: rewards with parameters, constant or a network of the input
- `estimators`, `objectives`: policy gradients, likelihood, squared error
- `inner`: closed-form, L-BFGS and trust-region solvers, returning a `Solution` (`solution`);
  `minimise`: the searches, and how far from a minimum they end
- `ensemble`: many members trained in one batched run; `streams`: their random numbers
- `tasks`: where the data come from

The same for classes in place of vectors:

- `categorical`: categorical laws and policies, labelled data, accuracy and calibration
- `class_rewards`: rewards between classes, the exact ones of the theory, learnable and free ones
- `classification`: score-function and exact policy gradients, cross-entropy
- `class_likelihood`: maximum likelihood, inner solutions, and the paper's problem for classes

The outer problem, `max_φ F(θ*(φ), φ)`, all returning a `Hypergradient` or a `Result`:

- `hypergradient`: by implicit differentiation; `linear_solve` holds its methods
- `unrolled`, `penalty`: through the steps of an optimiser; with first derivatives only
- `functional`: in the outputs of the policy, a closed form for each input
- `differentiable`: the inner solution as a differentiable function
- `bilevel`, `single_loop`: outer loops; `likelihood`: the paper's problem and plug-in algorithm
- `checkpoint`: files from which a run, and no other, goes on; `progress`: the bar of long runs

What all of them use: `trees` (containers of tensors, frozen leaves), `derivatives`, `norms` (sizes
without overflow), `values` (what objectives may return), `modes` (gradients under `no_grad`).

What each solver accepts as inner problem; the rest is refused with a message that says why:

- `inner.closed_form`: an unrestricted Gaussian policy, a Mahalanobis reward
- `bounded_reward.inner_solution`: an isotropic policy, Gaussian data, `λ < critical_lam`
- `inner.gradient`, `inner.second_order`: one member, a deterministic objective
- `ensemble.train`: any objective, sampled ones too, batches of members
- `hypergradient.implicit`: `J` strictly concave near `θ`; elsewhere only with `damping`
- `unrolled.unrolled`, `penalty.penalty`: the same, but no linear system is solved
- `functional.functional`: a Gaussian policy with any network, outer data at inner inputs
- `differentiable.inner_solution`: a strict maximum, some hundreds of inner parameters
- `bilevel.solve`, `single_loop.single_loop`: any `J` and `F`; sampled inner gradients in the first
- `likelihood.problem`: a Gaussian policy; rewards that depend on the input without sampling
- `class_likelihood.problem`: a categorical policy, any reward between classes, a weight decay > 0
"""
