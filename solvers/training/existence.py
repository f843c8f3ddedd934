"""Whether a likelihood has a maximum: said before work, or else of where a search has ended.

Outcomes that inputs say exactly are the likelier the smaller their variance, classes that they say
without an error the larger their logits: what a search returns there is where it was given up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..data import Dataset
from ..errors import InputError
from ..families.bernoulli import BernoulliPolicy
from ..families.categorical import CategoricalPolicy
from ..families.gaussian import GaussianPolicy
from ..families.law import Data, Params, Policy
from ..numerics.separation import entries, separated
from ..numerics.solution import Solution
from ..numerics.trees import Leaves
from .residuals import ROUNDING, Residuals

AT_ONCE = 1e6  # entries of a linear program that take about a second
SMALL = 1e-3  # of what outcomes spread: so small a deviation may be on its way to 0
SHUT = 1e-4  # a probability that is on its way to 0, wherever logits grow without an end

Classes = CategoricalPolicy | BernoulliPolicy


def check_bounded(policy: Policy, params: Params, data: Data) -> None:
    """Raise `InputError` where the likelihood has no maximum, as far as is known before work.

    That is of policies without hidden layers all there is to know, except of tables so large that
    it would take as long as a fit; of networks what their constants alone reach. Of frozen
    parameters nothing is known.
    """
    if isinstance(policy, GaussianPolicy) and isinstance(data, Dataset):
        if not Leaves.of("params", dict(params)).frozen:
            linear = not policy.mean.hidden
            Residuals.of(data, data, inputs=linear).check_unknown(policy.structure)
    elif isinstance(policy, Classes) and _free(policy, params):
        features = data.x[:, :0] if policy.network.hidden else data.x
        reason = _told(policy, data, features)
        if reason is not None:
            raise InputError(reason)


def judged(
    found: Solution[dict[str, Tensor]], policy: Policy, data: Data
) -> Solution[dict[str, Tensor]]:
    """Return where a search for the most likely parameters ended, with what is known there.

    Converged to is nothing where features of a last layer tell classes without an error, or where a
    deviation is all rounding; a search that did not, and ends at a small one, is told what to do.
    """
    reason = None
    if isinstance(policy, Classes):
        if _free(policy, found.value):
            with torch.no_grad():
                law = policy(found.value, data.x)
                features = policy.network.features(found.value, "", data.x)
            reason = _told(policy, data, features, law)
    elif isinstance(policy, GaussianPolicy) and isinstance(data, Dataset):
        reason = _vanishing(policy, found, data)
    return found if reason is None else replace(found, converged=False, reason=reason)


def _vanishing(
    policy: GaussianPolicy, found: Solution[dict[str, Tensor]], data: Dataset
) -> str | None:
    """Return which deviation is small beside the outcomes; of a factor, given those before."""
    with torch.no_grad():
        law = policy(found.value, data.x)
    scale = law.scale.diagonal(dim1=-2, dim2=-1) if law.full else law.scale
    least = scale.flatten(0, -2).amin(0)
    y = data.y.detach().flatten(0, 1)
    spread = (y - y.mean(0)).abs().amax(0)
    rounding = ROUNDING * torch.finfo(y.dtype).eps * y.abs().amax(0)
    share = least / torch.where(spread > 0, spread, 1.0)
    lost = bool((least <= rounding).any())
    if not lost and (found.converged or not bool((share < SMALL).any())):
        return None
    k = int(share.argmin())
    return (
        f"{'' if lost else found.reason + '; '}a deviation of y[..., {k}] fell to {share[k]:.2g} "
        f"of what its outcomes spread, as where the likelihood has no maximum: pass a weight_decay "
        f"> 0, more rows, or a policy with fewer parameters"
    )


def _free(policy: Classes, params: Params) -> bool:
    """Whether the last layer varies."""
    leaves = Leaves.of("params", dict(params))
    return all(f"params[{name!r}]" in leaves.names for name in policy.network.last)


def _classes(
    policy: Classes, data: Any, law: Any
) -> Iterator[tuple[Float[Tensor, "N C"], Float[Tensor, "N C"] | None, list[str]]]:
    """Return the data's and the law's probabilities of classes, and their names, for every bit."""
    if isinstance(policy, CategoricalPolicy):
        yield (
            data.mean,
            None if law is None else law.p,
            [f"class {c}" for c in range(policy.classes)],
        )
        return
    for k, ones in enumerate(data.mean.unbind(-1)):
        names = [f"y[..., {k}] = {value}" for value in (0, 1)]
        z = None if law is None else law.logits[..., k]
        p = None if z is None else torch.stack([(-z).sigmoid(), z.sigmoid()], -1)
        yield torch.stack([1 - ones, ones], -1), p, names


def _told(policy: Classes, data: Any, features: Tensor, law: Any = None) -> str | None:
    """Return which classes are told without an error, and what to do about it.

    Before there is a law it is said what takes about a second to know.
    """
    by = (
        "the last hidden layer"
        if policy.network.hidden and law is not None
        else "a line in the inputs"
    )
    for pi, p, names in _classes(policy, data, law):
        never = (pi == 0).all(0)
        if bool(never.any()):
            return (
                f"the likelihood has no maximum: {names[int(never.nonzero()[0])]} never comes, and "
                f"the lower its logit the likelier are the others; leave it out, or pass a "
                f"weight_decay > 0"
            )
        if p is None and entries(features, pi) > AT_ONCE:
            continue
        if p is not None and not bool(((pi == 0) & (p < SHUT)).any()):
            continue
        pair = separated(features, pi)
        if pair is not None:
            ahead, behind, inputs = pair
            return (
                f"the likelihood has no maximum: {by} tells {names[ahead]} from {names[behind]} at "
                f"{inputs} of {len(pi)} inputs, without an error at the others, and logits that "
                f"grow along it make the outcomes there as likely as one likes; pass more rows "
                f"than inputs, or a weight_decay > 0"
            )
    return None
