"""General n: matrix expressions as sums of words, scalars as sums of traces of words and log dets.

A word is a product of letters X or X⁻¹ (X symmetric), v or vᵀ (v a vector), L or Lᵀ and their
inverses (L triangular). The normal form uses only the ring axioms, X X⁻¹ = I, Tr(AB) = Tr(BA),
Tr(A) = Tr(Aᵀ), vᵀAw = Tr(wvᵀA) inside a word, log det(AB) = log det A + log det B and
log det(cA) = n log c + log det A: two expressions with one normal form are equal for every n. The
diagonal part diag(W) of a word is a letter, too: diagonal letters commute, diag(AW) = A diag(W) and
Tr(AW) = Tr(A diag(W)) for a diagonal A.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, TypeAlias

import sympy as sp

from ..errors import RuleError
from .symbols import DIMENSION, QUANTITIES

Letter: TypeAlias = tuple[str, int, bool]  # name, power (1 or -1), transposed (if not symmetric)
Word: TypeAlias = tuple[Letter, ...]
Words: TypeAlias = dict[Word, Any]
_INVERSE, _TRANSPOSE = "⁻¹", "ᵀ"


class LogDet(sp.Expr):
    """log det X of an SPD matrix expression; `matrices.differential` has its differential.

    SymPy's diff(log(Determinant(X)), X) is silently 0, so `diff` of this node raises. SymPy's diff
    of a *sum* of traces and log dets is still silently 0: use `matrices.differential`.
    """

    is_commutative = True
    is_real = True

    def __new__(cls, X: Any) -> LogDet:
        return sp.Expr.__new__(cls, sp.sympify(X, strict=True))

    def diff(self, *symbols: Any, **assumptions: Any) -> Any:
        """Always raises: SymPy has no rule for log det."""
        raise NotImplementedError("use matrices.differential for log det")

    def _eval_derivative(self, s: Any) -> Any:
        return self.diff(s)

    _eval_derivative_matrix_lines = _eval_derivative

    def _latex(self, printer: Any) -> str:
        return rf"\log\det {printer.parenthesize(self.args[0], 60)}"

    def _sympystr(self, printer: Any) -> str:
        return f"logdet({printer._print(self.args[0])})"

    def _pretty(self, printer: Any) -> Any:
        from sympy.printing.pretty.stringpict import prettyForm

        inner = prettyForm(*printer._print(self.args[0]).parens())
        return prettyForm(*inner.left("log det"))


def is_general(expression: Any) -> bool:
    """Whether the expression contains a matrix of general size."""
    if isinstance(expression, sp.MatrixBase):  # ImmutableMatrix is a MatrixExpr, too
        return False
    return bool(isinstance(expression, sp.MatrixExpr) or expression.has(sp.MatrixExpr))


def normal(expression: Any) -> Any:
    """The normal form, rebuilt as a SymPy expression; 0 or ZeroMatrix when it proves equality."""
    if isinstance(expression, sp.MatrixExpr):
        terms = [_without_numbers(word, value) for word, value in words_of(expression).items()]
        terms = [(word, _coefficient(value)) for word, value in terms]
        return matrix_from(collect(terms), expression.shape)
    replacements: dict[Any, Any] = {}
    for node in expression.atoms(sp.Trace, LogDet):
        replacements[node] = _trace(node.args[0]) if isinstance(node, sp.Trace) else _log_det(node)
    reduced = expression.xreplace(replacements)
    positive = {node: sp.Dummy(positive=True) for node in reduced.atoms(sp.Trace) if _is_spd(node)}
    reduced = sp.expand(sp.expand_log(reduced.xreplace(positive)))
    numerator, denominator = sp.fraction(sp.together(reduced))
    if sp.expand(numerator) == 0:
        return sp.S.Zero
    return (numerator / denominator).xreplace({name: node for node, name in positive.items()})


def _coefficient(value: Any) -> Any:
    """A coefficient of a word with the traces and log dets in it in normal form."""
    return normal(value) if value.has(sp.Trace, LogDet) else value


def _without_numbers(word: Word, value: Any) -> tuple[Word, Any]:
    """A word without the numbers vᵀWw in it, and its coefficient times their traces Tr(wvᵀW)."""
    at = [i for i, (name, _, _) in enumerate(word) if _is_vector(name)]
    for i, j in pairwise(at):
        if word[i][2] and not word[j][2]:
            number = sp.Trace(_product((*word[j : j + 1], *word[i:j]), 1, None))
            return _without_numbers(_reduce(word[:i] + word[j + 1 :]), value * number)
    return word, value


def words_of(X: Any) -> Words:
    """The words of a matrix expression with their scalar coefficients.

    Raises:
        RuleError: for a node with no rule (never a silent 0).
    """
    if isinstance(X, sp.MatrixSymbol):
        return {((X.name, 1, False),): sp.S.One}
    if isinstance(X, sp.Identity):
        return {(): sp.S.One}
    if isinstance(X, sp.ZeroMatrix):
        return {}
    if isinstance(X, sp.MatAdd):
        return collect([item for term in X.args for item in words_of(term).items()])
    if isinstance(X, sp.MatMul):
        product: Words = {(): sp.S.One}
        for factor in X.args:
            if isinstance(factor, sp.MatrixExpr):
                product = multiply(product, words_of(factor))
            else:
                product = {word: value * factor for word, value in product.items()}
        return product
    if isinstance(X, sp.Transpose):
        return {transpose(word): value for word, value in words_of(X.args[0]).items()}
    if isinstance(X, sp.Inverse):
        return _inverse(words_of(X.args[0]))
    if isinstance(X, sp.DiagonalMatrix):
        return collect([(diagonal(word), value) for word, value in words_of(X.args[0]).items()])
    if isinstance(X, sp.MatPow) and X.exp.is_Integer:
        base, power = words_of(X.base), {(): sp.S.One}
        for _ in range(abs(int(X.exp))):
            power = multiply(power, base)
        return power if X.exp > 0 else _inverse(power)
    raise RuleError(f"no rule for {type(X).__name__}: {X}")


def multiply(left: Words, right: Words) -> Words:
    """The product of two sums of words."""
    return collect([(_reduce(u + v), a * b) for u, a in left.items() for v, b in right.items()])


def collect(items: list[tuple[Word, Any]]) -> Words:
    """Add the coefficients of equal words and drop the zeros."""
    total: Words = {}
    for word, value in items:
        total[word] = total.get(word, sp.S.Zero) + value
    expanded = {word: sp.expand(value) for word, value in total.items()}
    return {word: value for word, value in expanded.items() if value != 0}


def matrix_from(terms: Words, shape: Any) -> Any:
    """The matrix expression of this shape with the given words."""
    if not terms:
        return sp.ZeroMatrix(*shape)
    products = [_product(word, value, shape) for word, value in sorted(terms.items())]
    return products[0] if len(products) == 1 else sp.MatAdd(*products)


def cyclic(word: Word) -> Word:
    """The representative of a word under the rotations and transposition that keep its trace."""
    candidates: list[Word] = []
    for start in (word, transpose(word)):
        candidates += [_reduce(start[i:] + start[:i]) for i in range(max(len(start), 1))]
    shortest = min(candidates, key=lambda found: (len(found), found))
    return shortest if len(shortest) == len(word) else cyclic(shortest)


def diagonal(word: Word) -> Word:
    """The diagonal part of a word: diag(AWB) = A diag(W) B for diagonal A and B.

    Raises:
        RuleError: if a diagonal letter is left inside W.
    """
    rest = [i for i, (name, _, _) in enumerate(word) if not _is_diagonal(name)]
    if not rest:
        return word
    inner = word[rest[0] : rest[-1] + 1]
    if len(inner) > len(rest):
        raise RuleError(f"no rule for the diagonal part of the product {word}")
    letter = (f"diag({min(_written(inner), _written(transpose(inner)))})", 1, False)
    return _reduce((*word[: rest[0]], letter, *word[rest[-1] + 1 :]))


def inside(name: str) -> Word:
    """The word W of a diagonal letter diag(W), the empty word for any other letter."""
    if not _is_diagonal(name):
        return ()
    letters: list[Letter] = []
    for part in name.removeprefix("diag(").removesuffix(")").split():
        bare = part.removesuffix(_TRANSPOSE)
        power = -1 if bare.endswith(_INVERSE) else 1
        letters.append((bare.removesuffix(_INVERSE), power, part != bare))
    return tuple(letters)


def _written(word: Word) -> str:
    """A word as one name; `inside` reads it."""
    return " ".join(
        name + (_INVERSE if power == -1 else "") + (_TRANSPOSE if flag else "")
        for name, power, flag in word
    )


def _reduce(word: Word) -> Word:
    done: list[Letter] = []
    for letter in word:
        name, power, flag = letter
        run = len(done)  # diagonal letters commute with those before them
        while _is_diagonal(name) and run > 0 and _is_diagonal(done[run - 1][0]):
            run -= 1
        near = range(min(run, max(len(done) - 1, 0)), len(done))
        at = [i for i in near if done[i] == (name, -power, flag)]
        if at:
            del done[at[0]]
        else:
            done[run:] = sorted([*done[run:], letter])
    return tuple(done)


def _is_diagonal(name: str) -> bool:
    return name.startswith("diag(")


def _is_spd(trace: Any) -> bool:
    """Whether a trace is positive by its form: of one SPD matrix, or of the product of two."""
    word = _only_word(trace.args[0])
    letters = [inside(letter[0]) or (letter,) for letter in word]
    names = [part[0][0] if len(part) == 1 else "" for part in letters]
    domains = {QUANTITIES[name].domain if name in QUANTITIES else None for name in names}
    return len(word) <= 2 and domains == {"spd"}


def _only_word(X: Any) -> Word:
    (word,) = words_of(X)
    return word


def _domain(name: str) -> str | None:
    quantity = QUANTITIES.get(name.removeprefix("d"))  # dm is a vector if m is
    return None if quantity is None else quantity.domain


def _is_vector(name: str) -> bool:
    return _domain(name) == "vector"


def _flips(name: str) -> bool:
    return _domain(name) in ("vector", "triangular")


def transpose(word: Word) -> Word:
    """The transpose of a word: letters reversed, vectors and triangular ones flipped."""
    return tuple((name, power, flag ^ _flips(name)) for name, power, flag in reversed(word))


def _inverse(terms: Words) -> Words:
    if len(terms) != 1:
        raise RuleError("the inverse of a sum has no normal form; name the sum by a symbol first")
    ((word, value),) = terms.items()
    return {tuple((name, -power, flag) for name, power, flag in reversed(word)): 1 / value}


def _trace(X: Any) -> Any:
    items: list[tuple[Word, Any]] = []
    for word, value in words_of(X).items():
        columns = [i for i, (name, _, flag) in enumerate(word) if _is_vector(name) and not flag]
        start = columns[0] if columns else 0  # Tr(w vᵀW w₂ v₂ᵀ) = vᵀWw₂ Tr(w v₂ᵀ)
        items.append(_without_numbers(word[start:] + word[:start], value))
    terms = collect([(cyclic(_seen(word)), _coefficient(value)) for word, value in items])
    return sum(
        (value * (sp.Trace(_product(word, 1, None)) if word else DIMENSION))
        for word, value in terms.items()
    )


def _seen(word: Word) -> Word:
    """Tr(AW) = Tr(A diag(W)) for A diagonal; Tr diag(W) = Tr W."""
    plain = [i for i, (name, _, _) in enumerate(word) if not _is_diagonal(name)]
    if not plain and len(word) == 1 and word[0][1] == 1:
        return inside(word[0][0])
    for start in range(len(word) if plain and len(plain) < len(word) else 0):
        turned = word[start:] + word[:start]
        if not any(_is_diagonal(name) for name, _, _ in turned[: len(plain)]):
            return diagonal(turned)
    return word


def _log_det(node: LogDet) -> Any:
    terms = words_of(node.args[0])
    if len(terms) != 1:
        return node
    ((word, value),) = terms.items()
    letters = [power * LogDet(_matrix(name)) for name, power, _ in word]
    return DIMENSION * sp.expand_log(sp.log(value)) + sum(letters)


def _matrix(name: str) -> Any:
    if _is_diagonal(name):
        return sp.DiagonalMatrix(_product(inside(name), 1, None))
    return sp.MatrixSymbol(name, DIMENSION, 1 if _is_vector(name) else DIMENSION)


def _product(word: Word, value: Any, shape: Any) -> Any:
    if not word:
        return sp.MatMul(value, sp.Identity(shape[0]))
    factors: list[Any] = []
    for name, power, flag in word:
        X = _matrix(name)
        turned = sp.Transpose(X) if flag else X
        factors.append(sp.Inverse(turned) if power == -1 else turned)
    if value == 1 and len(factors) == 1:
        return factors[0]
    return sp.MatMul(value, *factors) if value != 1 else sp.MatMul(*factors)
