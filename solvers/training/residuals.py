"""What inputs leave to know of outcomes: whether a likelihood is bounded, and its coordinates.

With a policy of free mean and covariance the likelihood of the outcomes grows without bound where
a combination of them is known exactly. Where none is, `U = R M Mᵀ Rᵀ` with `R Rᵀ = (λ/2) Σ⁻¹`, `Σ`
the covariance of the residuals about a line, is a problem of white residuals in `M`: nothing in it
depends on how correlated they are, while in `U` curvatures lie as far apart as eigenvalues of `Σ`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..data import Dataset
from ..errors import InputError
from ..families.gaussian import Structure

ROUNDING = 32  # units in the last place of an outcome, that its residual may hold


@dataclass(frozen=True)
class Residuals:
    """Residuals of outcomes about the least-squares line in the inputs.

    Attributes:
        left: the residuals, in units of `size`, `(rows, n)`.
        size: their root mean square in each column, `(n,)`.
        rounding: what rounding of the data may make of them, `(n,)`.
    """

    left: Float[Tensor, "r n"]
    size: Float[Tensor, "n"]
    rounding: Float[Tensor, "n"]

    @classmethod
    def of(cls, data: Dataset, held_out: Dataset, *, inputs: bool = True) -> Residuals:
        """Return those of `held_out` about the line through `data`; a constant without `inputs`."""
        x, mean, y = data.x.detach(), data.mean.detach(), held_out.y.detach()
        centre, spread = x.mean(0), x.std(0, correction=0)
        spread = torch.where(spread > 0, spread, 1.0)

        def columns(at: Tensor) -> Tensor:
            one = torch.ones_like(at[:, :1])
            return torch.cat([(at - centre) / spread, one], 1) if inputs else one

        origin = mean.mean(0)
        line = torch.linalg.lstsq(columns(x), mean - origin, driver="gelsd").solution
        fitted = columns(held_out.x.detach()) @ line
        left = (y - origin - fitted.unsqueeze(-2)).flatten(0, 1)
        largest = left.abs().amax(0)  # whose square a dtype may not hold
        unit = torch.where(largest > 0, largest, 1.0)
        size = unit * (left / unit).square().mean(0).sqrt()
        eps = ROUNDING * torch.finfo(left.dtype).eps
        rounding = eps * y.abs().flatten(0, 1).amax(0)
        if inputs:  # as far as the line carries that of the inputs
            rounding = rounding + eps * (x.abs().amax(0) / spread) @ line[:-1].abs()
        return cls(left / torch.where(size > 0, size, 1.0), size, rounding)

    def known(self, structure: Structure) -> Float[Tensor, "n"] | None:
        """Return a combination of the outcomes without a residual, None where there is none.

        Of a covariance that is diagonal it is one outcome; of an isotropic one, all of them.
        """
        exact = self.size <= self.rounding
        if structure == "isotropic":
            return exact.to(self.size) if bool(exact.all()) else None
        if bool(exact.any()):
            return torch.zeros_like(self.size).index_fill(0, exact.nonzero()[0], 1.0)
        if structure == "diagonal":
            return None
        n = len(self.size)
        rows = max(len(self.left), n)
        full = torch.cat([self.left, self.left.new_zeros(rows - len(self.left), n)])
        _, w, V = torch.linalg.svd(full, full_matrices=False)
        least = float((self.rounding / self.size).amax()) * n
        return V[-1] / self.size if float(w[-1]) <= least * rows**0.5 else None

    def check_unknown(self, structure: Structure) -> None:
        """Raise `InputError` where the likelihood has no maximum."""
        v = self.known(structure)
        if v is None:
            return
        weight = v * torch.where(self.size > self.rounding, self.size, 1.0)
        of = [k for k, w in enumerate(weight.tolist()) if abs(w) > 1e-3 * float(weight.abs().max())]
        lead, *others = of
        ratios = [(float(v[k] / v[lead]), k) for k in others]
        combination = f"y[..., {lead}]" + "".join(
            f" {'-' if a < 0 else '+'} {abs(a):.6g} y[..., {k}]" for a, k in ratios
        )
        raise InputError(
            f"the likelihood has no maximum: a line through {len(self.left)} outcomes says "
            f"{combination} exactly, and a variance that vanishes there makes them as likely as "
            f"one likes; leave out y[..., {of[-1]}], pass more rows than inputs and outcomes, or a "
            f"weight_decay > 0"
        )

    def precision_factor(self) -> Float[Tensor, "n n"]:
        """Return `R`, lower triangular with a positive diagonal, `R Rᵀ = Σ⁻¹`.

        From a QR decomposition of the residuals: `Σ` itself has twice as few digits.
        """
        T = torch.linalg.qr(self.left.flip(1) / len(self.left) ** 0.5).R
        R = torch.linalg.solve_triangular(T, torch.eye(len(T)).to(T), upper=True).flip(0, 1)
        R = R * R.diagonal().sign()
        return R / self.size.unsqueeze(1)
