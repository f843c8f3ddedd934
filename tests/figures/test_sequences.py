"""The figure `sequences`, small: what is lost is what is derived, and the caption says so."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pandas as pd
import pytest

from figures import sequences as drawing
from paper_checks.claims.claim import Verdict
from paper_checks.claims.pictures import sequences as claims
from paper_checks.experiments import sequences
from solvers.errors import InputError
from tests.shapes import unchecked

SMALL = replace(sequences.QUICK, T=3, steps=150, compared_steps=40, width=8)


@cache
@unchecked()
def small() -> pd.DataFrame:
    return sequences.run(SMALL, seed=0)


def test_what_is_lost_is_predicted() -> None:
    lost = drawing.summary(small())
    assert len(lost) == 2 * SMALL.T
    assert (lost.learned - lost.predicted).abs().max() < 0.01
    additive = lost[lost.k == 0]
    assert (additive.trained - additive.predicted).abs().max() < 0.01
    assert lost[(lost.law == "chain") & (lost.k > 0)].predicted.abs().max() < 1e-9


def test_bits_add_up_to_the_sequence() -> None:
    """The bits of the positions, less those of the whole window, are what the order loses."""
    bits = small()[(small().part == "positions") & (small().kind == "predicted")]
    total = bits.groupby("k").bits.sum()
    lost = drawing.summary(small()).query("law == 'text'").set_index("k").predicted
    for k in range(SMALL.T):
        gap = (total[k] - total[SMALL.T - 1]) * 0.6931471805599453
        assert gap == pytest.approx(lost[k], abs=1e-9)


def test_same_seed_same_bits() -> None:
    fast = replace(SMALL, steps=3, compared_steps=3)
    first, again, other = (sequences.run(fast, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


def test_the_caption_follows_the_table() -> None:
    assert "they agree, the largest" in drawing.caption(_off(0.0))
    assert "they do NOT all agree, the largest difference is 0.5" in drawing.caption(_off(0.5))


def _off(by: float) -> pd.DataFrame:
    """The table with trained policies that lose this much more than is predicted."""
    table = small().copy()
    keys = ["law", "k"]
    orders = table[table.part == "orders"]
    predicted = orders[orders.kind == "predicted"].set_index(keys).kl
    trained = (table.part == "orders") & (table.kind == "trained")
    table.loc[trained, "kl"] = [
        predicted[key] + by for key in table.loc[trained, keys].itertuples(index=False, name=None)
    ]
    return table


@pytest.mark.parametrize(("by", "verdict"), [(0.0, "reproduced"), (0.5, "not reproduced")])
def test_the_claim_about_orders_can_fail(
    by: float, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequences, "run", lambda settings, *, seed: _off(by))
    assert claims.total_correlation(0).verdict is Verdict(verdict)


@pytest.mark.parametrize(("factor", "verdict"), [(0.0, "reproduced"), (1.0, "not reproduced")])
def test_the_claim_about_the_optimum_can_fail(
    factor: float, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training that stays where it started has not arrived."""
    table = small().copy()
    training = table.part == "training"
    start = table[training & (table.step == 0)].kl.max()
    table.loc[training & (table.step > 0), "kl"] = factor * start
    monkeypatch.setattr(sequences, "run", lambda settings, *, seed: table)
    assert claims.optimum(0).verdict is Verdict(verdict)


def test_settings_are_refused() -> None:
    with pytest.raises(InputError, match="T is 2: pass at least 3"):
        sequences.Settings(T=2)
    with pytest.raises(InputError, match=r"make 3\^9 sequences"):
        sequences.Settings(T=9)
