"""Nested containers of tensors ("pytrees") as one flat vector, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from solvers.errors import InputError, check_finite

Tree = Any
"""A tensor, or nested dicts, lists and tuples of tensors."""


@dataclass(frozen=True)
class Leaves:
    """The tensors of a tree, in order, and what is needed to build the tree again."""

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...]
    structure: pytree.TreeSpec

    @classmethod
    def of(cls, name: str, tree: Tree) -> Leaves:
        """Take a tree apart, after checking that it holds finite floating-point tensors.

        Args:
            name: of the tree, for messages.
            tree: a tensor or a nested container of tensors; nothing else.

        Raises:
            InputError: no tensors, something that is no tensor, or tensors of several dtypes.
            NonFiniteError: NaN or infinity.
        """
        paired, structure = pytree.tree_flatten_with_path(tree)
        names = tuple(name + pytree.keystr(path) for path, _ in paired)
        if not paired:
            raise InputError(f"{name} holds no tensor: pass at least one")
        for label, (_, leaf) in zip(names, paired, strict=True):
            if not isinstance(leaf, Tensor):
                raise InputError(f"{label} is a {type(leaf).__name__}: pass tensors only")
            if not leaf.is_floating_point():
                raise InputError(f"{label} has dtype {leaf.dtype}: pass floating-point tensors")
            if leaf.dtype != paired[0][1].dtype:
                raise InputError(
                    f"{label} is {leaf.dtype}, {names[0]} {paired[0][1].dtype}: use one dtype"
                )
            check_finite(label, leaf)
        return cls(tuple(leaf for _, leaf in paired), names, structure)

    def fresh(self) -> Leaves:
        """Return detached copies that require gradients."""
        copies = tuple(t.detach().clone().requires_grad_() for t in self.tensors)
        return Leaves(copies, self.names, self.structure)

    def tree(self, tensors: Sequence[Tensor] | None = None) -> Tree:
        """Return the tree of these tensors, or of others in their place."""
        return pytree.tree_unflatten(
            list(self.tensors if tensors is None else tensors), self.structure
        )

    def detached(self) -> Tree:
        """Return the tree of detached copies."""
        return self.tree([t.detach().clone() for t in self.tensors])

    def replaced(self, tensors: Sequence[Tensor]) -> Leaves:
        """Return other tensors of the same tree, detached and requiring gradients."""
        return Leaves(tuple(tensors), self.names, self.structure).fresh()

    def moved(self, directions: Sequence[Tensor], step: float) -> Leaves:
        """Return `tensors + step · directions`, detached and requiring gradients."""
        moved = [t.detach() + step * d for t, d in zip(self.tensors, directions, strict=True)]
        return self.replaced(moved)

    def split(self, flat: Tensor) -> tuple[Tensor, ...]:
        """Return a flat vector cut and shaped like the tensors."""
        parts = flat.split([t.numel() for t in self.tensors])
        return tuple(part.view(t.shape) for part, t in zip(parts, self.tensors, strict=True))


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return the entries of all tensors in one vector."""
    return torch.cat([t.reshape(-1) for t in tensors])
