"""Divergences of near laws, and entropies of laws that are nearly certain, keep their digits."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from torch import Tensor

import solvers as so
from solvers.families.sequences import Autoregressive
from tests.draws import F64

EPS = 2.0**-52
NEAR = [10.0**-e for e in range(13)]
SCALES = (1.0, 30.0, 700.0)  # of the logits
LEAST = 1e-290  # what is below is no normal number, or has probabilities that are none


def digits(largest: float) -> float:
    """Relative error: `exp` of a logit of this size has that of rounding its differences."""
    return 20 * EPS * (1 + largest / 10)


def _logits(classes: int, scale: float, near: float, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return logits up to `scale`, and others that differ from them by about `near`."""
    generator = torch.Generator().manual_seed(classes)
    z0 = scale * (2 * torch.rand(classes, generator=generator, dtype=F64) - 1)
    return z0 + near * torch.randn(classes, generator=generator, dtype=F64) + shift, z0


def _log_p(z: Tensor) -> list[mpmath.mpf]:
    exact = [mpmath.mpf(x) for x in z.tolist()]
    total = mpmath.log(mpmath.fsum(map(mpmath.exp, exact)))
    return [x - total for x in exact]


def _divergence(z: Tensor, z0: Tensor) -> float:
    with mpmath.workdps(1300):
        pairs = list(zip(_log_p(z), _log_p(z0), strict=True))
        return float(mpmath.fsum(mpmath.exp(a) * (a - b) for a, b in pairs))


def _entropy(z: Tensor) -> float:
    with mpmath.workdps(700):
        return float(-mpmath.fsum(mpmath.exp(a) * a for a in _log_p(z)))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("classes", [2, 5])
def test_divergences_of_near_laws_have_all_digits(classes: int, scale: float) -> None:
    seen = 0
    for near in NEAR:
        for shift in (0.0, 1.0):  # a constant changes nothing
            z, z0 = _logits(classes, scale, near, shift)
            for one, other in ((z, z0), (z0, z)):
                want = _divergence(one, other)
                found = so.Categorical(one[None]).kl(so.Categorical(other[None])).item()
                if want > LEAST:
                    assert found == pytest.approx(want, rel=digits(scale), abs=0)
                    seen += 1
                else:
                    assert 0 <= found <= 2 * LEAST
    assert seen > 20 or scale > 30


@pytest.mark.parametrize("scale", SCALES)
def test_divergences_of_near_bits_have_all_digits(scale: float) -> None:
    for near in NEAR:
        z, z0 = _logits(7, scale, near)
        found = so.Bernoulli(z[:, None]).kl(so.Bernoulli(z0[:, None]))
        for got, a, b in zip(found.tolist(), z, z0, strict=True):
            want = _divergence(torch.stack([a, 0 * a]), torch.stack([b, 0 * b]))
            if want > LEAST:
                assert got == pytest.approx(want, rel=digits(scale), abs=0)
            else:
                assert 0 <= got <= 2 * LEAST


@pytest.mark.parametrize("near", NEAR)
def test_their_gradients_do_too(near: float) -> None:
    z, z0 = _logits(4, 2.0, near)
    z.requires_grad_()
    so.Categorical(z[None]).kl(so.Categorical(z0[None])).sum().backward()
    with mpmath.workdps(60):  # p_c (log(p_c/p₀_c) - KL)
        pairs = [(a, a - b) for a, b in zip(_log_p(z.detach()), _log_p(z0), strict=True)]
        mean = mpmath.fsum(mpmath.exp(a) * d for a, d in pairs)
        want = torch.tensor([float(mpmath.exp(a) * (d - mean)) for a, d in pairs], dtype=F64)
    assert z.grad is not None
    assert (z.grad - want).abs().max().item() <= 20 * EPS * want.abs().max().item()


def test_the_curvature_at_a_law_itself_is_its_covariance() -> None:
    z = torch.tensor([0.3, -1.2, 4.0], dtype=F64)
    law = so.Categorical(z[None])

    def kl(moved: Tensor) -> Tensor:
        return so.Categorical(moved[None]).kl(law).sum()

    assert kl(z).item() == 0
    found = torch.autograd.functional.hessian(kl, z)
    torch.testing.assert_close(found, law.covariance[0], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("gap", [0.0, 1.0, 2.5, 10.0, 36.0, 40.0, 300.0, 700.0])
def test_entropies_of_nearly_certain_laws_have_all_digits(gap: float) -> None:
    z = torch.tensor([gap, 0.0, -0.7], dtype=F64)
    law = so.Categorical(z[None])
    assert law.entropy().item() == pytest.approx(_entropy(z), rel=digits(gap), abs=0)
    with mpmath.workdps(700):
        rest = mpmath.exp(-gap) * (1 + mpmath.exp(mpmath.mpf(-0.7)))
        want = float(-mpmath.log1p(rest))
    sure = torch.tensor([[1.0, 0.0, 0.0]], dtype=F64)
    data = so.LabelledData(torch.zeros(1, 1, dtype=F64), sure)
    assert law.log_p[0, 0].item() == pytest.approx(want, rel=digits(gap), abs=0)
    assert law.cross_entropy(data).item() == pytest.approx(-want, rel=digits(gap), abs=0)
    words = Autoregressive(lambda y: z.expand(*y.shape[:-1], y.shape[-1] + 1, 3), V=3, T=4)
    once = torch.zeros(1, 1, 4, dtype=F64)
    assert words.log_prob(once).item() == pytest.approx(4 * want, rel=digits(gap), abs=0)
    assert words.log_p[0, 0].item() == pytest.approx(4 * want, rel=digits(gap), abs=0)
    assert words.entropy().item() == pytest.approx(4 * _entropy(z), rel=digits(gap), abs=0)


def test_laws_with_excluded_classes_and_far_ones() -> None:
    no = -math.inf
    cases = [
        ([0.0, no, 1e-9], [0.0, no, 0.0]),  # the same class is excluded
        ([0.0, no, 1e-9], [0.0, 0.0, 0.0]),  # by the law alone
        ([0.0, no, 0.0], [0.0, 40.0, 1e-3]),  # the likeliest one of the reference
        ([0.0, -1400.0], [-1400.0, 0.0]),
        ([700.0, -700.0, 0.0], [-700.0, 700.0, 0.0]),
    ]
    for z, z0 in (map(torch.tensor, case) for case in cases):
        found = so.Categorical(z[None].double()).kl(so.Categorical(z0[None].double()))
        with mpmath.workdps(1300):
            kept = [i for i, x in enumerate(z.tolist()) if x > no]
            own, other = _log_p(z[kept].double()), _log_p(z0[z0 > no].double())
            place = [int((z0 > no)[:i].sum()) for i in kept]
            terms = (mpmath.exp(a) * (a - other[i]) for a, i in zip(own, place, strict=True))
            want = float(mpmath.fsum(terms))
        assert found.item() == pytest.approx(want, rel=20 * EPS, abs=0)


def test_a_member_that_diverged_is_nan_alone() -> None:
    z = torch.tensor([[[0.0, 1.0]], [[math.nan, 0.0]], [[9.0, 0.0]]], dtype=F64, requires_grad=True)
    law, reference = so.Categorical(z, check=False), so.Categorical(torch.zeros(1, 2, dtype=F64))
    found = torch.stack([law.kl(reference), law.entropy()])
    assert found.isnan()[..., 0].tolist() == [[False, True, False]] * 2
    (slopes,) = torch.autograd.grad(found.sum(), z)
    assert torch.isfinite(slopes[[0, 2]]).all()
