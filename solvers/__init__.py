"""The numerical side, in PyTorch: train a policy on a reward, choose the reward, say how well.

`import solvers as so` has the public names at hand; each lives in the module named below.

The inner problem, `θ*(φ) = argmax_θ J(θ, φ)`:

- `families`: `law`, the protocol; the laws that policies return, one file each; `networks`, their
  bodies; `module`: any torch module as a policy
- `data`: outcomes grouped by distinct input; `tasks`: where they come from
- `rewards`: `mahalanobis`, `between_classes`, `bounded`; `learnable` ones have parameters,
  `tempered` ones an entropy weight `λ(x)` of their own;
  `with_reference`: what changes with a `reference` policy in place of the entropy; `windows` of
  sequences
- `training`: `objectives`, `estimators` of their gradients, `inner` solvers (a `Solution` each),
  `reference` policies, `ensemble` (many members in one batched run), `early_stopping`, and random
  `streams`

The outer problem, `max_φ F(θ*(φ), φ)`:

- `hypergradients`: `implicit`, `unrolled`, `penalty`; `functional` in the outputs of the policy;
  `differentiable`, the inner solution as a function that can be differentiated
- `bilevel`: the outer `loop`, its `convergence` and inner solves; `single_loop`; `likelihood`: the
  paper's problem, its plug-in; `maximum_likelihood`: that on data of one's own, searched for in
  `coordinates` of its own; `cross_fitted`: a reward `U(x)` from residuals of held-out rows

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
- `bilevel.likelihood.problem`: any family of `families`; a categorical policy needs a weight
  decay > 0
- `policy(module)`: any `torch.nn.Module` that returns a `torch.distributions.Distribution`
"""

from .bilevel.inner_solve import AdamSteps, Exact, Inexact
from .bilevel.likelihood import plug_in
from .bilevel.loop import Result
from .bilevel.maximum_likelihood import maximum_likelihood, solve
from .bilevel.problem import Bilevel
from .bilevel.single_loop import single_loop
from .data import Dataset, LabelledData
from .errors import (
    InputError,
    MissingExtraError,
    NonFiniteError,
    NotPositiveDefiniteError,
    ShapeError,
    SolverError,
)
from .families.bernoulli import Bernoulli, BernoulliPolicy
from .families.categorical import Categorical, CategoricalPolicy
from .families.gaussian import Gaussian, GaussianPolicy
from .families.module import policy
from .families.networks import MLP
from .families.sequence_networks import RecurrentPolicy, causal_policy
from .hypergradients.implicit import Hypergradient, HypergradientError, HypergradientWarning
from .hypergradients.methods import CG, Dense, Implicit, Neumann, Nystrom, Penalty, Unrolled
from .metrics import accuracy, calibration_error
from .numerics.optimisers import SGD, Adam
from .numerics.solution import Solution
from .rewards.between_classes import (
    ClassReward,
    FreeReward,
    OneHotReward,
    exact_diagonal,
    exact_scale,
    gibbs,
    heuristic_scale,
)
from .rewards.bounded import BoundedReward
from .rewards.learnable import ConstantReward, InputReward
from .rewards.mahalanobis import MahalanobisReward, optimal_reward, optimal_scale
from .rewards.tempered import Tempered, TemperedReward
from .rewards.windows import WindowMatch, WindowReward
from .rewards.with_reference import Projection, projected_reward
from .training.ensemble import DivergenceWarning, train
from .training.estimators import Analytic, Pathwise, ScoreFunction
from .training.inner import closed_form, fit
from .training.objectives import MSE, NLL, BetaNLL, Faithful, PolicyGradient
from .training.reference import Reference
from .training.streams import MemberNoise, generator

__all__ = [
    "CG",
    "MLP",
    "MSE",
    "NLL",
    "SGD",
    "Adam",
    "AdamSteps",
    "Analytic",
    "Bernoulli",
    "BernoulliPolicy",
    "BetaNLL",
    "Bilevel",
    "BoundedReward",
    "Categorical",
    "CategoricalPolicy",
    "ClassReward",
    "ConstantReward",
    "Dataset",
    "Dense",
    "DivergenceWarning",
    "Exact",
    "Faithful",
    "FreeReward",
    "Gaussian",
    "GaussianPolicy",
    "Hypergradient",
    "HypergradientError",
    "HypergradientWarning",
    "Implicit",
    "Inexact",
    "InputError",
    "InputReward",
    "LabelledData",
    "MahalanobisReward",
    "MemberNoise",
    "MissingExtraError",
    "Neumann",
    "NonFiniteError",
    "NotPositiveDefiniteError",
    "Nystrom",
    "OneHotReward",
    "Pathwise",
    "Penalty",
    "PolicyGradient",
    "Projection",
    "RecurrentPolicy",
    "Reference",
    "Result",
    "ScoreFunction",
    "ShapeError",
    "Solution",
    "SolverError",
    "Tempered",
    "TemperedReward",
    "Unrolled",
    "WindowMatch",
    "WindowReward",
    "accuracy",
    "calibration_error",
    "causal_policy",
    "closed_form",
    "exact_diagonal",
    "exact_scale",
    "fit",
    "generator",
    "gibbs",
    "heuristic_scale",
    "maximum_likelihood",
    "optimal_reward",
    "optimal_scale",
    "plug_in",
    "policy",
    "projected_reward",
    "single_loop",
    "solve",
    "train",
]
