"""How tensors lie in memory changes nothing; what cannot be computed with is refused by name."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from solvers import bilevel
from solvers.bilevel.single_loop import single_loop
from solvers.errors import InputError
from solvers.hypergradients.differentiable import inner_solution
from solvers.hypergradients.implicit import implicit
from solvers.hypergradients.penalty import penalty
from solvers.hypergradients.unrolled import SGD, unrolled
from solvers.numerics.norms import digits
from solvers.training import inner
from tests.draws import F64, normal

F32 = torch.float32
INF = float("inf")


def leaves(tree: Any) -> list[Tensor]:
    return pytree.tree_leaves(tree)


def J(theta: Any, phi: Any) -> Tensor:
    """Each entry of `θ` follows that of `φ`, entry by entry."""
    pairs = zip(leaves(theta), leaves(phi), strict=True)
    return sum((-(t - p).square().sum() - 0.1 * t.square().sum() for t, p in pairs), _zero(phi))


def F(theta: Any, phi: Any) -> Tensor:
    return sum((-(t - 3).square().sum() for t in leaves(theta)), _zero(phi))


def _zero(phi: Any) -> Tensor:
    return 0 * leaves(phi)[0].sum()


def solution(phi: Any) -> Any:
    return pytree.tree_map(lambda p: p / 1.1, phi)


ENTRIES: dict[str, Callable[[Any, Any], Any]] = {
    "dense": lambda t, p: implicit(J, F, t, p, method="dense").value,
    "cg": lambda t, p: implicit(J, F, t, p, method="cg").value,
    "neumann": lambda t, p: implicit(J, F, t, p, method="neumann").value,
    "unrolled": lambda t, p: unrolled(
        J, F, t, p, optimiser=SGD(0.2), steps=5, tolerance=INF, distance=INF
    ).value,
    "penalty": lambda t, p: penalty(J, F, t, p, weight=300.0).value,
    "inner_solution": lambda t, p: inner_solution(J, t, p),
    "minimum": lambda t, p: inner.minimum(
        {"t": t}, lambda d: -J(d["t"], pytree.tree_map(lambda q: q.detach().contiguous(), p))
    ).value if isinstance(t, Tensor) else inner_solution(J, t, p),
    "solve": lambda t, p: bilevel.solve(
        bilevel.Bilevel(J, F), t, p, optimiser=lambda q: torch.optim.Adam(q, lr=0.1), steps=2
    ).phi,
    "solve by L-BFGS": lambda t, p: bilevel.solve(
        bilevel.Bilevel(J, F), t, p, optimiser=torch.optim.LBFGS, steps=2
    ).phi,
    "single_loop": lambda t, p: single_loop(
        bilevel.Bilevel(J, F), t, p, steps=3, inner_rate=lambda k: 0.1, outer_rate=lambda k: 0.1
    ).phi,
}  # fmt: skip
entries = pytest.mark.parametrize("entry", ENTRIES)


others = pytest.mark.parametrize("entry", [name for name in ENTRIES if name != "minimum"])


LAYOUTS: dict[str, Tensor] = {
    "transposed": normal(0, 2, 3).T,
    "expanded": normal(0, 1, 3).expand(4, 3),
    "one number expanded": normal(0, 1).expand(4),
    "channels last": normal(0, 2, 3, 2, 2).to(memory_format=torch.channels_last),
    "sliced": normal(0, 9, 4)[1::3, ::2],
    "column": normal(0, 5, 3)[:, 1],
    "flipped": normal(0, 4).flip(0),
    "diagonal": normal(0, 4, 4).diagonal(),
    "0-dim": normal(0, 1)[0],
    "ones in shape": normal(0, 1, 3, 1).permute(2, 0, 1),
}
layouts = pytest.mark.parametrize("layout", LAYOUTS)


def close(got: Any, want: Any) -> None:
    for a, b in zip(leaves(got), leaves(want), strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a.detach(), b.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.gate
@layouts
@entries
def test_the_value_of_the_contiguous_tensor(entry: str, layout: str) -> None:
    phi = LAYOUTS[layout]
    before = phi.clone()
    got = ENTRIES[entry](phi / 1.1 if entry != "solve" else torch.zeros_like(phi), phi)
    start = before.contiguous()
    want = ENTRIES[entry](start / 1.1 if entry != "solve" else torch.zeros_like(start), start)
    close(got, want)
    assert torch.equal(phi, before)


@pytest.mark.gate
@entries
def test_a_leaf_without_numbers_among_others(entry: str) -> None:
    phi = {"a": normal(0, 3), "none": torch.zeros(0, 2, dtype=F64), "b": normal(0, 1)[0]}
    rest = {"a": phi["a"], "b": phi["b"]}
    got = ENTRIES[entry](solution(phi), phi)
    want = ENTRIES[entry](solution(rest), rest)
    assert got["none"].shape == (0, 2)
    close({"a": got["a"], "b": got["b"]}, want)


REFUSED: dict[str, tuple[Any, str]] = {
    "no number": (torch.zeros(0, dtype=F64), "no number|size 0"),
    "no numbers": ([torch.zeros(0), torch.zeros(2, 0)], "no number, only tensors of size 0"),
    "no tensor": ([], "no tensor"),
    "bfloat16": (torch.ones(2, dtype=torch.bfloat16), "bfloat16"),
    "float16": (torch.ones(2, dtype=torch.float16), "float16"),
    "int": (torch.ones(2, dtype=torch.int64), "int64"),
    "bool": (torch.ones(2, dtype=torch.bool), "bool"),
    "complex": (torch.ones(2, dtype=torch.complex128), "complex128"),
    "sparse": (torch.ones(2, dtype=F64).to_sparse(), "sparse"),
    "number": (1.5, "is a float: pass tensors only"),
    "mixed": ([torch.ones(2, dtype=F64), torch.ones(2)], "use one dtype"),
    "devices": ([torch.ones(2), torch.ones(2, device="meta")], "use one device"),
}


@pytest.mark.parametrize("what", [name for name in REFUSED if name != "number"])
def test_what_cannot_be_minimised_over(what: str) -> None:
    bad, words = REFUSED[what]
    params = {"a": bad} if isinstance(bad, Tensor) else dict(zip("ab", bad, strict=False))
    with pytest.raises(InputError, match=words):
        inner.minimum(params, lambda d: F(d, d))


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("outer", [False, True])
@others
def test_what_cannot_be_computed_with(entry: str, outer: bool, what: str) -> None:
    bad, words = REFUSED[what]
    good = torch.ones(2, dtype=F64)
    with pytest.raises(InputError, match=words) as caught:
        ENTRIES[entry](*((good, bad) if outer else (bad, good)))
    assert ("phi" if outer else "theta") in str(caught.value)


@others
def test_one_dtype_for_both_trees(entry: str) -> None:
    with pytest.raises(InputError, match=r"theta.* is torch.float64, phi torch.float32: use one"):
        ENTRIES[entry](torch.ones(2, dtype=F64), torch.ones(2, dtype=F32))


@pytest.mark.gate
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("method", ["dense", "cg", "neumann", "unrolled", "penalty"])
def test_single_precision_is_right_to_its_digits(method: Any, strict: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    A, b = (torch.randn(*s, generator=generator, dtype=F64) for s in ((40, 6), (40,)))

    def run(dtype: torch.dtype) -> Tensor:
        X, y = A.to(dtype), b.to(dtype)

        def J(w: Tensor, p: Tensor) -> Tensor:
            return -(X @ w - y).square().mean() - (p.exp() * w.square()).sum()

        def F(w: Tensor, p: Tensor) -> Tensor:
            return -(X @ w - 1).square().mean()

        H = A.T @ A / 40 + torch.eye(6, dtype=F64) * torch.tensor(-1.0, dtype=F64).exp()
        w = torch.linalg.solve(H, A.T @ b / 40).to(dtype)
        phi = torch.full((6,), -1.0, dtype=dtype)
        if method == "unrolled":
            return unrolled(J, F, w, phi, optimiser=SGD(0.3), steps=40, strict=strict).value
        if method == "penalty":
            return penalty(J, F, w, phi, weight=300.0, strict=strict).value
        return implicit(J, F, w, phi, method=method, strict=strict).value

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got, want = run(F32), run(F64)
    limit = 1e-2 if method == "penalty" else 10 * digits(1e-11, F32)
    assert got.dtype == F32
    assert float((got.double() - want).norm()) <= limit * float(want.norm())


# frozen leaves


def parameter(values: list[float], frozen: bool) -> Tensor:
    return torch.nn.Parameter(torch.tensor(values, dtype=F64), requires_grad=not frozen)


TREES: dict[str, Callable[[], Any]] = {
    "a frozen parameter": lambda: {
        "free": parameter([0.5, 1.0], False), "still": parameter([2.0, -1.0], True)
    },
    "a frozen parameter among plain tensors": lambda: {
        "free": torch.tensor([0.5, 1.0], dtype=F64), "still": parameter([2.0, -1.0], True)
    },
    "a plain leaf beside a parameter": lambda: {
        "free": parameter([0.5, 1.0], False), "still": torch.tensor([2.0, -1.0], dtype=F64)
    },
    "a frozen leaf first": lambda: {
        "still": parameter([2.0, -1.0], True), "free": parameter([0.5, 1.0], False)
    },
}  # fmt: skip
trees = pytest.mark.parametrize("kind", TREES)


def ordered(theta: Any) -> Any:
    return {name: theta[name] for name in ("free", "still")}


def aligned(objective: Any) -> Any:
    """Sum over names, whatever their order."""
    return lambda t, p: objective(ordered(t), ordered(p))


FJ, FF = aligned(J), aligned(F)
PLAIN = {"free": torch.tensor([0.5, 1.0], dtype=F64), "still": torch.ones(2, dtype=F64)}


@pytest.mark.gate
@trees
@pytest.mark.parametrize("outer", [False, True])
def test_frozen_leaves_stay_bit_for_bit(kind: str, outer: bool) -> None:
    tree = TREES[kind]()
    before = {name: leaf.detach().clone() for name, leaf in tree.items()}
    theta, phi = (PLAIN, tree) if outer else (tree, PLAIN)
    problem = bilevel.Bilevel(FJ, FF)
    found = [
        bilevel.solve(problem, theta, phi, optimiser=lambda q: torch.optim.SGD(q, lr=0.1), steps=2),
        single_loop(
            problem, theta, phi, steps=3, inner_rate=lambda k: 0.1, outer_rate=lambda k: 0.1
        ),
    ]
    for result in found:
        got = result.phi if outer else result.theta
        assert list(got) == list(tree)
        assert torch.equal(got["still"], before["still"])
        assert all(row.stationarity < 1e-8 or result is found[1] for row in result.history)
        # what comes back is frozen to whoever takes it up
        again = implicit(FJ, FF, result.theta, result.phi, distance=INF)
        assert not bool(again.value["still"].any())
        assert not torch.equal(got["free"], before["free"])
    for name, leaf in tree.items():
        assert torch.equal(leaf.detach(), before[name])


@pytest.mark.gate
@trees
def test_nothing_is_differentiated_in_frozen_leaves(kind: str) -> None:
    phi = TREES[kind]()
    theta = {name: (leaf / 1.1).detach() for name, leaf in phi.items()}
    for found in (
        implicit(FJ, FF, theta, phi, method="dense"),
        implicit(FJ, FF, theta, phi, method="cg"),
        unrolled(FJ, FF, theta, phi, optimiser=SGD(0.2), steps=40),
        penalty(FJ, FF, theta, phi, weight=1e4),
    ):
        assert list(found.value) == list(phi)
        assert not bool(found.value["still"].any())
        want = -2 * (theta["free"] - 3) / 1.1
        torch.testing.assert_close(found.value["free"], want, rtol=1e-3, atol=0)


@pytest.mark.gate
@trees
def test_frozen_inner_leaves_are_constants(kind: str) -> None:
    theta = TREES[kind]()
    phi = {name: leaf.detach() * 1.1 for name, leaf in ordered(theta).items()}
    plain = implicit(FJ, FF, {n: v.detach() for n, v in theta.items()}, phi)
    for found in (
        implicit(FJ, FF, theta, phi),
        unrolled(FJ, FF, theta, phi, optimiser=SGD(0.2), steps=40),
        penalty(FJ, FF, theta, phi, weight=1e4),
    ):
        assert not bool(found.value["still"].any())  # it moves no inner variable
        torch.testing.assert_close(found.value["free"], plain.value["free"], rtol=1e-3, atol=0)
    solved = inner_solution(FJ, theta, phi)
    assert torch.equal(solved["still"], theta["still"].detach())
    torch.testing.assert_close(solved["free"].detach(), phi["free"] / 1.1)
    least = inner.minimum(theta, lambda p: -FJ(p, phi) + (p["free"] ** 4).sum())
    assert torch.equal(least.value["still"], theta["still"].detach())
    assert not torch.equal(least.value["free"], theta["free"].detach())


def test_nothing_but_frozen_leaves_is_refused() -> None:
    still, free = {"w": parameter([1.0, 2.0], True)}, {"w": torch.ones(2, dtype=F64)}
    for entry, run in ENTRIES.items():
        if entry == "minimum":
            with pytest.raises(InputError, match="every leaf of params is frozen"):
                inner.minimum(still, lambda p: F(p, p))
            continue
        with pytest.raises(InputError, match=r"every leaf of theta0? is frozen"):
            run(still, free)
        if entry != "inner_solution":  # phi takes part there as it is
            with pytest.raises(InputError, match="every leaf of phi is frozen"):
                run(free, still)
