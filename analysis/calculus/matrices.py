"""Matrix functions and differentials that work for explicit matrices and for general n alike.

Gradients with respect to a symmetric X are symmetric matrices G with dF = Tr(G dX): off the
diagonal, G_ij is half the partial derivative with respect to the one symbol X_ij = X_ji.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from ..errors import FormError, RuleError
from . import general_n
from .expanding import expanded
from .general_n import LogDet
from .slopes import derivative


def inverse(X: Any) -> Any:
    """X⁻¹: in lowest terms for an explicit matrix of rational functions, else `Inverse`."""
    return _inverse(X.as_immutable()) if isinstance(X, sp.MatrixBase) else sp.Inverse(X)


def det(X: Any) -> Any:
    """det X of an explicit matrix of rational functions, in lowest terms."""
    return _det(X.as_immutable())


def product(*factors: Any) -> Any:
    """The product: every entry in lowest terms for explicit matrices of rational functions."""
    if not isinstance(factors[0], sp.MatrixBase):
        return sp.MatMul(*factors)
    total = _over_field(factors[0])
    for factor in factors[1:]:
        left, right = total.unify(_over_field(factor))
        total = left * right
    return sp.ImmutableMatrix(total.to_Matrix())


@cache
def _inverse(X: Any) -> Any:
    if X.is_diagonal():
        return sp.ImmutableMatrix.diag(*(1 / entry for entry in X.diagonal()))
    return sp.ImmutableMatrix(_over_field(X).inv().to_Matrix())


@cache
def _det(X: Any) -> Any:
    if X.is_diagonal():
        return sp.prod(X.diagonal())
    matrix = _over_field(X)
    constant = matrix.domain.to_sympy(matrix.charpoly()[-1])
    return sp.factor_terms((-1) ** X.rows * constant)


def lowest_terms(X: Any) -> Any:
    """An explicit matrix (or scalar) of rational functions with every entry in lowest terms."""
    if isinstance(X, sp.MatrixBase):
        return sp.ImmutableMatrix(_over_field(X).to_Matrix())
    return lowest_terms(sp.ImmutableMatrix([[X]]))[0, 0]


def cancel_outside_logs(f: Any) -> Any:
    """A scalar with its terms free of logs in lowest terms."""
    rest, logs = sp.expand(f, log=False).as_independent(sp.log, as_Add=True)
    return lowest_terms(sp.together(rest)) + logs


def _over_field(X: Any) -> Any:
    return X.as_immutable().to_DM().to_field()


def logdet(X: Any) -> Any:
    """log det X."""
    return sp.log(det(X)) if isinstance(X, sp.MatrixBase) else LogDet(X)


def trace(X: Any) -> Any:
    """Tr X."""
    return X.trace() if isinstance(X, sp.MatrixBase) else sp.Trace(X)


def diagonal_part(X: Any) -> Any:
    """diag(X): X with every entry off its diagonal 0."""
    if isinstance(X, sp.MatrixBase):
        return sp.ImmutableMatrix.diag(*X.diagonal())
    return sp.DiagonalMatrix(X)


def identity(like: Any) -> Any:
    """I of the size of a square matrix."""
    return (
        sp.ImmutableMatrix.eye(like.rows)
        if isinstance(like, sp.MatrixBase)
        else sp.Identity(like.rows)
    )


def outer(u: Any, v: Any) -> Any:
    """u vᵀ."""
    return u * v.T


def bilinear(u: Any, A: Any, v: Any) -> Any:
    """uᵀ A v, written Tr(A v uᵀ) for general n."""
    return (u.T * (A * v))[0, 0] if isinstance(A, sp.MatrixBase) else sp.Trace(A * v * u.T)


def quadratic(A: Any, v: Any) -> Any:
    """vᵀ A v, written Tr(A v vᵀ) for general n."""
    return expanded((v.T * A * v)[0, 0]) if isinstance(v, sp.MatrixBase) else sp.Trace(A * v * v.T)


def gradient(f: Any, X: Any) -> Any:
    """The gradient of a scalar: G symmetric with df = Tr(G dX), or g with df = gᵀdx for a vector.

    Args:
        f: scalar expression.
        X: explicit symmetric matrix or column of symbols, or a `MatrixSymbol` of general size.
    """
    if isinstance(X, sp.MatrixBase):
        half = sp.Rational(1, 2)
        is_vector = X.cols == 1 and X.rows > 1
        return sp.ImmutableMatrix(
            X.rows,
            X.cols,
            lambda i, j: derivative(f, X[i, j]) * (1 if is_vector or i == j else half),
        )
    dX = sp.MatrixSymbol(f"d{X.name}", *X.shape)
    return _coefficient(differential(f, X, dX), dX, X)


def second_differential(f: Any, *pairs: tuple[Any, Any]) -> Any:
    """d²f(X + tH)/dt² at t = 0 for pairs (X, H): explicit, or one pair of general size."""
    if not isinstance(pairs[0][0], sp.MatrixBase):
        ((X, H),) = pairs
        return differential(differential(f, X, H), X, H)
    t = sp.Dummy("t")
    moved = f.xreplace(dict(zip_entries(*((X, X + t * H) for X, H in pairs))))
    return derivative(derivative(moved, t), t).subs(t, 0)


def zip_entries(*pairs: tuple[Any, Any]) -> list[tuple[Any, Any]]:
    """Pairs of corresponding entries of explicit matrices, for substitution."""
    return [pair for X, Y in pairs for pair in zip(X, Y, strict=True)]


def slope(f: Any, x: Any) -> Any:
    """df/dx of a scalar in normal form, general n, whose traces and log dets do not depend on x."""
    names = {node: sp.Dummy() for node in f.atoms(sp.Trace, LogDet)}
    if any(node.has(x) for node in names):
        raise FormError(f"{f} has a trace or a log det that depends on {x}")
    return sp.diff(f.xreplace(names), x).xreplace({name: node for node, name in names.items()})


def replace(f: Any, X: Any, value: Any) -> Any:
    """f with the symbol X (explicit or general) replaced by a value."""
    if isinstance(X, sp.MatrixBase):
        return f.xreplace(dict(zip_entries((X, value))))
    return f.xreplace({X: value})


def differential(f: Any, X: Any, dX: Any) -> Any:
    """df along dX for general n, with d log det X = Tr(X⁻¹ dX) and d X⁻¹ = -X⁻¹ dX X⁻¹.

    Raises:
        RuleError: for a node without a rule. SymPy's own `diff` would return 0 for some of these.
    """
    if not f.has(X):
        return sp.ZeroMatrix(*f.shape) if isinstance(f, sp.MatrixExpr) else sp.S.Zero
    if f == X:
        return dX
    if isinstance(f, (sp.Add, sp.MatAdd)):
        return f.func(*(differential(term, X, dX) for term in f.args))
    if isinstance(f, (sp.Mul, sp.MatMul)):
        return _sum(
            [
                f.func(*f.args[:i], differential(factor, X, dX), *f.args[i + 1 :])
                for i, factor in enumerate(f.args)
                if factor.has(X)
            ]
        )
    inner = f.args[0]
    if isinstance(f, sp.Trace):
        return sp.Trace(differential(inner, X, dX))
    if isinstance(f, sp.log):
        return differential(inner, X, dX) / inner
    if isinstance(f, sp.DiagonalMatrix):
        return sp.DiagonalMatrix(differential(inner, X, dX))
    if isinstance(f, LogDet):
        return sp.Trace(sp.Inverse(inner) * differential(inner, X, dX))
    if isinstance(f, sp.Transpose):
        return sp.Transpose(differential(inner, X, dX))
    if isinstance(f, sp.Inverse):
        return -f * differential(inner, X, dX) * f
    raise RuleError(f"no differential rule for {type(f).__name__}: {f}")


def solve_inverse_equation(G: Any, X: Any) -> Any:
    """Solve a X⁻¹ + B = 0 for X, general n, where B is one word: X = -a B⁻¹.

    Raises:
        FormError: if G is not of that form.
    """
    (word,) = general_n.words_of(sp.Inverse(X))
    terms = general_n.words_of(G)
    rest = {key: value for key, value in terms.items() if key != word}
    if word not in terms or len(rest) != 1 or general_n.matrix_from(rest, X.shape).has(X):
        raise FormError(f"not of the form a X⁻¹ + B with one word B: {G}")
    B = general_n.matrix_from({key: -value / terms[word] for key, value in rest.items()}, X.shape)
    return general_n.matrix_from(general_n.words_of(sp.Inverse(B)), X.shape)


def solve_word_equation(G: Any, X: Any) -> Any:
    """Solve c L X R + B = 0 for X, general n, L and R products of letters: X = -L⁻¹BR⁻¹/c.

    Args:
        G: the matrix or vector that shall be 0.
        X: the unknown symbol, or its diagonal part.
    Raises:
        FormError: if G is not of that form.
    """
    ((letter,),) = general_n.words_of(X)
    terms = general_n.words_of(G)
    holding = [word for word in terms if letter in word]
    if len(holding) != 1:
        raise FormError(f"not of the form c L X R + B with X = {X}: {G}")
    (word,) = holding
    value, place = terms.pop(word), word.index(letter)
    B = general_n.matrix_from(terms, G.shape)
    left, right = (
        sp.Inverse(general_n.matrix_from({side: sp.S.One}, (size, size)))
        for side, size in ((word[:place], G.shape[0]), (word[place + 1 :], G.shape[1]))
    )
    if any(part.has(*X.free_symbols) for part in (left, B, right)):
        raise FormError(f"not of the form c L X R + B with X = {X} there once: {G}")
    return general_n.normal(sp.MatMul(-1 / value, left, B, right))


def _sum(terms: list[Any]) -> Any:
    if isinstance(terms[0], sp.MatrixExpr):
        return sp.MatAdd(*terms)
    return sp.Add(*terms)


def _coefficient(df: Any, dX: Any, X: Any) -> Any:
    """G with df = Tr(G dX) (symmetrised), or g with df = Tr(dxᵀ g)."""
    items: list[tuple[general_n.Word, Any]] = []
    is_vector = X.shape[1] == 1
    for scalar, M in _traces(df, dX):
        for word, value in general_n.words_of(M).items():
            rest, is_row = _around(word, dX.name)
            mirrored = general_n.transpose(rest)
            if is_vector:
                items.append((mirrored if not is_row else rest, scalar * value))
            else:
                items += [(rest, scalar * value / 2), (mirrored, scalar * value / 2)]
    return general_n.matrix_from(general_n.collect(items), X.shape)


def _around(word: general_n.Word, name: str) -> tuple[general_n.Word, bool]:
    """The R with Tr(word) = Tr(R dX), for the one letter dX of this name, and whether it is dXᵀ."""
    at = [i for i, letter in enumerate(word) if letter[0] == name]
    parts = [general_n.inside(letter[0]) for letter in word]
    within = [i for i, part in enumerate(parts) if any(letter[0] == name for letter in part)]
    if len(at) + len(within) != 1:
        raise FormError(f"not linear in {name}: {word}")
    (place,) = at + within
    rest = word[place + 1 :] + word[:place]
    if within:  # Tr(R diag(W)) = Tr(diag(R) W)
        return _around((*general_n.diagonal(rest), *parts[place]), name)
    return rest, word[place][2]


def _traces(df: Any, dX: Any) -> list[tuple[Any, Any]]:
    """Write a scalar linear in dX as a sum of (coefficient, M) meaning coefficient · Tr M."""
    pairs: list[tuple[Any, Any]] = []
    for term in sp.Add.make_args(sp.expand(df)):
        found = [f for f in sp.Mul.make_args(term) if isinstance(f, sp.Trace) and f.has(dX)]
        if len(found) != 1:
            raise FormError(f"not a multiple of one trace with {dX}: {term}")
        pairs.append((term / found[0], found[0].args[0]))
    return pairs
