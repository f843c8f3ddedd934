"""Two levels of a bilevel problem, `θ* = φ` and `dF/dφ = 4 - φ`; and two of trees of tensors."""

from typing import Any

from torch import Tensor


def J(theta: Tensor, phi: Tensor) -> Tensor:
    return -(theta - phi).square().sum() / 2


def F(theta: Tensor, phi: Tensor) -> Tensor:
    return -(theta - 3).square().sum() / 2 + phi.sum()


def J_of_trees(theta: Any, phi: Any) -> Tensor:
    fit = (theta["b"][0] - phi[1]["c"]).square().sum() + theta["b"][1].square().sum()
    return -fit - (theta["a"] - phi[0]).square()


def F_of_trees(theta: Any, phi: Any) -> Tensor:
    return theta["b"][0].sum() + theta["a"] * phi[0]
