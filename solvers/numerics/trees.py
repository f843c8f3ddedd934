"""Nested containers of tensors ("pytrees") as one flat vector, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..errors import InputError, check_dtype, check_finite

Tree = Any
"""A tensor, or nested dicts, lists and tuples of tensors."""


@dataclass(frozen=True)
class Leaves:
    """The tensors of a tree that vary, in order, and what is needed to build the tree again.

    A leaf is *frozen* if it is a `torch.nn.Parameter` with `requires_grad=False`, or if it requires
    no gradients while another leaf of its tree does: as torch has it for the parameters and
    buffers of a module. A tree in which no leaf requires gradients holds plain numbers, and all of
    them vary.

    Attributes:
        tensors: the leaves that vary.
        names: theirs.
        structure: of the tree.
        frozen: the leaves that do not vary, by their place among all leaves.
    """

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...]
    structure: pytree.TreeSpec
    frozen: tuple[tuple[int, Tensor], ...] = ()

    @classmethod
    def of(cls, name: str, tree: Tree, *, values: bool = True, freeze: bool = True) -> Leaves:
        """Take a tree apart, after checking that it holds finite floating-point tensors.

        Args:
            name: of the tree, for messages.
            tree: a tensor or a nested container of tensors; nothing else.
            values: whether to look at the values, which a transform of `torch.func` may hide.
            freeze: whether leaves can be frozen; where not, all of them vary.

        Raises:
            InputError: no tensors, something that is no tensor, a sparse one, no numbers, a
                precision that linear algebra does not have, several dtypes or devices, or nothing
                but frozen leaves.
            NonFiniteError: NaN or infinity.
        """
        paired, structure = pytree.tree_flatten_with_path(tree)
        names = tuple(name + pytree.keystr(path) for path, _ in paired)
        if not paired:
            raise InputError(f"{name} holds no tensor: pass at least one")
        for label, (_, leaf) in zip(names, paired, strict=True):
            _check_leaf(label, leaf, names[0], paired[0][1])
            if values:
                check_finite(label, leaf.detach())
        if not any(leaf.numel() for _, leaf in paired):
            raise InputError(f"{name} holds no number, only tensors of size 0: pass at least one")
        leaves = [leaf for _, leaf in paired]
        required = any(leaf.requires_grad for leaf in leaves)
        still = [
            freeze and not leaf.requires_grad and (required or isinstance(leaf, torch.nn.Parameter))
            for leaf in leaves
        ]
        if all(still):
            raise InputError(
                f"every leaf of {name} is frozen (requires_grad=False): nothing is left to vary; "
                "call requires_grad_() on what should"
            )
        return cls(
            tuple(leaf for leaf, fixed in zip(leaves, still, strict=True) if not fixed),
            tuple(label for label, fixed in zip(names, still, strict=True) if not fixed),
            structure,
            tuple((k, _held(leaf, values)) for k, leaf in enumerate(leaves) if still[k]),
        )

    def fresh(self) -> Leaves:
        """Return detached copies that require gradients, stored in one piece each."""
        copies = tuple(_copy(t).requires_grad_() for t in self.tensors)
        return Leaves(copies, self.names, self.structure, self.frozen)

    def tree(self, tensors: Sequence[Tensor] | None = None) -> Tree:
        """Return the tree of these tensors, or of others in their place, and the frozen leaves."""
        leaves = list(self.tensors if tensors is None else tensors)
        for place, leaf in self.frozen:  # in increasing order
            leaves.insert(place, leaf)
        return pytree.tree_unflatten(leaves, self.structure)

    def tangent(self, tensors: Sequence[Tensor]) -> Tree:
        """Return the tree of these derivatives, 0 in the frozen leaves."""
        zeros = tuple((place, torch.zeros_like(leaf)) for place, leaf in self.frozen)
        return Leaves(self.tensors, self.names, self.structure, zeros).tree(tensors)

    def matching(self, name: str, tree: Tree) -> tuple[Tensor, ...]:
        """Return the leaves of another tree like this one that stand where tensors vary.

        Raises:
            InputError: `tree`, called `name`, is built otherwise.
        """
        leaves, structure = pytree.tree_flatten(tree)
        if structure != self.structure:
            raise InputError(f"{name} is a tree of another form than {self.names}: build it alike")
        still = {place for place, _ in self.frozen}
        return tuple(leaf for k, leaf in enumerate(leaves) if k not in still)

    def detached(self) -> Tree:
        """Return the tree of detached copies."""
        return self.tree([_copy(t) for t in self.tensors])

    def replaced(self, tensors: Sequence[Tensor]) -> Leaves:
        """Return other tensors of the same tree, detached and requiring gradients."""
        return Leaves(tuple(tensors), self.names, self.structure, self.frozen).fresh()

    def moved(self, directions: Sequence[Tensor], step: float) -> Leaves:
        """Return `tensors + step · directions`, detached and requiring gradients."""
        moved = [t.detach() + step * d for t, d in zip(self.tensors, directions, strict=True)]
        return self.replaced(moved)

    def split(self, flat: Tensor) -> tuple[Tensor, ...]:
        """Return a flat vector cut and shaped like the tensors: views, or itself if it is alike."""
        if len(self.tensors) == 1 and self.tensors[0].ndim == 1:
            return (flat,)
        parts = flat.split([t.numel() for t in self.tensors])
        return tuple(part.view(t.shape) for part, t in zip(parts, self.tensors, strict=True))


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return the entries of all tensors in one vector."""
    return torch.cat([t.reshape(-1) for t in tensors])


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Return the same, of a single vector itself: not to be written into.

    Joining one tensor would cost every Hessian-vector product three more operations.
    """
    return tensors[0] if len(tensors) == 1 and tensors[0].ndim == 1 else flat(tensors)


def check_alike(theta: Leaves, phi: Leaves) -> None:
    """Raise `InputError` unless both trees have one dtype and one device."""
    one, other = theta.tensors[0], phi.tensors[0]
    names = theta.names[0], phi.names[0]
    if one.dtype != other.dtype:
        raise InputError(f"{names[0]} is {one.dtype}, {names[1]} {other.dtype}: use one dtype")
    if one.device != other.device:
        raise InputError(
            f"{names[0]} is on {one.device}, {names[1]} on {other.device}: use one device"
        )


def _held(leaf: Tensor, values: bool) -> Tensor:
    """Return a frozen leaf in the form that says so to whoever gets the tree next.

    What a transform of `torch.func` wraps can be no parameter, and goes no further.
    """
    plain = leaf.detach()
    return torch.nn.Parameter(plain, requires_grad=False) if values else plain


def _copy(leaf: Tensor) -> Tensor:
    """Return a detached copy whose entries lie in order, as optimisers that flatten them need."""
    return leaf.detach().clone(memory_format=torch.contiguous_format)


def _check_leaf(label: str, leaf: Any, first: str, like: Any) -> None:
    if not isinstance(leaf, Tensor):
        raise InputError(f"{label} is a {type(leaf).__name__}: pass tensors only")
    if leaf.layout != torch.strided:
        raise InputError(f"{label} is {leaf.layout}: pass a dense tensor, e.g. .to_dense()")
    if not leaf.is_floating_point():
        raise InputError(f"{label} has dtype {leaf.dtype}: pass floating-point tensors")
    check_dtype(label, leaf)
    if leaf.dtype != like.dtype:
        raise InputError(f"{label} is {leaf.dtype}, {first} {like.dtype}: use one dtype")
    if leaf.device != like.device:
        raise InputError(f"{label} is on {leaf.device}, {first} on {like.device}: use one device")
