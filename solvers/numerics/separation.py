"""Whether a linear map of features tells classes apart, so that their likelihood has no maximum."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import optimize, sparse
from torch import Tensor

ROUNDING = 32  # units in the last place of each term, that a difference of logits may hold


def entries(features: Tensor, pi: Tensor) -> int:
    """Return how many entries the constraints of `separated` have at most: what it costs."""
    return features.shape[0] * (pi.shape[1] - 1) * 2 * (features.shape[1] + 1)


def separated(
    features: Float[Tensor, "N k"], pi: Float[Tensor, "N C"]
) -> tuple[int, int, int] | None:
    """Return two classes that a map of the features tells apart, None where there are none.

    Along a map whose logits satisfy `z_c - z_j >= 0` at every input, for all `j` and every class
    `c` that comes there, and `> 0` somewhere, `E log p` grows without an end; without such a map
    it has a maximum (Albert and Anderson, 1984). The map is looked for by linear programming, and
    one that errs by more than rounding is none.

    Args:
        features: of a logit that is linear in them and has a constant.
        pi: probabilities of the classes at each input; only where they are 0 matters.

    Returns:
        The class that is ahead, the one behind, and at how many inputs; the pair of most inputs.
    """
    comes = pi.detach().cpu().numpy() > 0
    if comes.all():
        return None
    at = features.detach().double().cpu().numpy()
    at = at - at.mean(0)
    spread = np.abs(at).max(0)
    at = np.column_stack([at / np.where(spread > 0, spread, 1.0), np.ones(len(at))])
    k, C = at.shape[1], comes.shape[1]
    row, c, j = np.nonzero(comes[:, :, None] & ~np.eye(C, dtype=bool))
    place = np.arange(k)
    where = np.concatenate([c[:, None] * k + place, j[:, None] * k + place], 1)
    terms = np.concatenate([at[row], -at[row]], 1)
    ends = 2 * k * np.arange(len(row) + 1)
    ahead = sparse.csr_matrix((terms.ravel(), where.ravel(), ends), shape=(len(row), C * k))
    found = optimize.linprog(
        -np.asarray(ahead.sum(0)).ravel(),
        A_ub=-ahead,
        b_ub=np.zeros(len(row)),
        bounds=(-1, 1),
        method="highs",
    )
    if found.x is None:
        return None
    gap = ahead @ found.x
    eps = float(np.finfo(gap.dtype).eps)
    if gap.min() < -ROUNDING * eps * k or gap.max() <= eps**0.5:
        return None
    pairs, inputs = np.unique((c * C + j)[gap > eps**0.5], return_counts=True)
    most = int(inputs.argmax())
    return int(pairs[most]) // C, int(pairs[most]) % C, int(inputs[most])
