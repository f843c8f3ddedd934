"""Early stopping: for each member the parameters that did best on data it is not trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError, ShapeError, check_count, check_instance, check_number
from ..families.law import Params
from ..numerics.values import real


class EarlyStopping:
    """The parameters of the lowest score met, per member: pass it to `train` as `observe`.

    Members stop on their own: what one keeps does not depend on its neighbours. Training ends once
    none of them has improved for `patience` looks.

    Attributes:
        params: kept so far, `(*b, ...)`.
        score: theirs, `(*b,)`; infinite for a member whose score was never finite.
        step: at which each was met, `(*b,)`.
        done: of each member, whether it gained nothing for `patience` looks, `(*b,)`.
        ended: whether all are done: else training was too short.
    """

    params: dict[str, Tensor]
    score: Float[Tensor, "*b"]
    step: Tensor
    done: Tensor
    ended: bool

    def __init__(
        self,
        score: Callable[[Params], Float[Tensor, "*b"]],
        *,
        every: int = 1,
        patience: int = 10,
        least: float = 0.0,
    ) -> None:
        """Set up.

        Args:
            score: of all members, such as the loss on validation data; low is good.
            every: steps from one look to the next.
            patience: looks without an improvement, after which a member counts as done.
            least: improvement of the score that counts as one; smaller ones are kept, but give a
                member no more time.
        """
        check_count("every", every)
        check_count("patience", patience)
        self._score, self._every, self._patience = score, every, patience
        self._least = check_number("least", least, 0.0)
        self.params, self.ended, self._last = {}, False, -1

    def __call__(self, step: int, params: Params) -> bool:
        """Look at the parameters after a step; return whether training may end.

        Raises:
            InputError: the score is no tensor of real numbers, or the step is none after the last:
                of another training, for which there is to be a new object.
            ShapeError: the score is not one number per member.
        """
        if step <= self._last:
            raise InputError(
                f"step {step} comes after step {self._last}: pass a new EarlyStopping to every "
                f"training"
            )
        self._last = step
        if step % self._every:
            return False
        found: Any = self._score(params)
        check_instance("the score", found, Tensor, "a score that returns one number per member")
        found = real("the score", found).detach()
        if not self.params:
            self.params = {name: p.detach().clone() for name, p in params.items()}
            self.score = torch.full_like(found, torch.inf)
            self.step = torch.full_like(found, step, dtype=torch.int64)
            self._mark, self._since = self.score.clone(), self.step.clone()
        better = found < self.score  # never where it is NaN
        self.score = torch.where(better, found, self.score)
        self.step = torch.where(better, step, self.step)
        gained = found < self._mark - self._least
        self._mark = torch.where(gained, found, self._mark)
        self._since = torch.where(gained, step, self._since)
        for name, p in params.items():
            own = p.shape[: found.ndim]
            if own != found.shape:
                raise ShapeError(
                    f"the score has shape {tuple(found.shape)}, {name} {tuple(p.shape)}: return "
                    f"one number per member"
                )
            mask = better.reshape(better.shape + (1,) * (p.ndim - better.ndim))
            self.params[name] = torch.where(mask, p.detach(), self.params[name])
        self.done = step - self._since >= self._patience * self._every
        self.ended = bool(self.done.all())
        return self.ended

    def best(self) -> dict[str, Tensor]:
        """Return the parameters kept.

        Raises:
            InputError: there was no look, as with fewer steps than `every`.
        """
        if not self.params:
            raise InputError(f"no look at any parameters: train for {self._every} steps or more")
        return self.params
