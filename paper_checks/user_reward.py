"""A reward given to `analysis.derive`, as the function of tensors that `so.PolicyGradient` takes.

No solver comes from a derivation here: the expression is the user's own reward, before anything was
derived from it. What trains on it is compared with what is derived.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp
import torch
from torch import Tensor

from analysis import KL, ArgumentNameError, Derived


def torch_reward(derived: Derived, **parameters: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return `r(ŷ, y)` of tensors `(..., n)`, outcome dimension last, as `(...)`.

    Args:
        derived: of a reward of vectors, with entropy as its regulariser.
        parameters: of the reward, by name.

    Raises:
        ArgumentNameError: a parameter is missing or unknown; or the reward is a table, or its
            regulariser is not the entropy that `so.PolicyGradient` adds.
    """
    if not derived.outcomes or isinstance(derived.regulariser, KL):
        raise ArgumentNameError(
            "torch_reward takes rewards of vectors with Entropy(...), as so.PolicyGradient has it; "
            "for classes pass the table to so.ClassReward"
        )
    names = {str(x): x for X in derived.parameters.values() for x in sp.Matrix([X]).free_symbols}
    if set(names) != set(parameters):
        raise ArgumentNameError(f"pass the parameters {sorted(names)}, not {sorted(parameters)}")
    outcomes = [x for X in derived.outcomes.values() for x in sp.Matrix([X])]
    function = sp.lambdify(
        [*outcomes, *names.values()],
        derived.reward,
        modules=[{"exp": torch.exp, "sqrt": torch.sqrt}],
    )
    values = [torch.tensor(float(parameters[name]), dtype=torch.float64) for name in names]

    def reward(generated: Tensor, outcome: Tensor) -> Tensor:
        generated, outcome = torch.broadcast_tensors(generated, outcome)
        return function(
            *generated.unbind(-1), *outcome.unbind(-1), *(v.to(generated) for v in values)
        )

    return reward
