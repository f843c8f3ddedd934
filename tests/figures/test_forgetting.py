"""The figure `forgetting`, small: paths, modes, matching, and verdicts that can come out wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

import solvers as so
from figures import forgetting as drawing
from figures import style
from paper_checks.claims.claim import Verdict
from paper_checks.claims.pictures import forgetting as claims
from paper_checks.experiments import forgetting, forgetting_digits, forgetting_modes
from solvers.errors import InputError
from tests.draws import F64

SMALL = replace(
    forgetting.QUICK,
    ratios=(0.5, 1.0),
    modes=replace(forgetting.QUICK.modes, horizon=0.6),
    digits=replace(forgetting.QUICK.digits, splits=2, hidden=8, epochs=120, base_epochs=60),
)


@cache
def small() -> pd.DataFrame:
    return forgetting.run(SMALL, seed=0)


# --- Gaussian paths ---


@pytest.mark.parametrize("method", forgetting.METHODS)
def test_natural_gradients_follow_the_derived_paths(method: str) -> None:
    rows = small()[(small().part == "paths") & (small().method == method)]
    for _, of_base in rows.groupby(forgetting.KEYS):
        derived, found = (
            of_base[of_base.kind == kind].sort_values("time") for kind in ("predicted", "natural")
        )
        inside = derived[derived.time < SMALL.horizon]
        for name in ("mean", "variance"):
            there = np.interp(inside.time, found.time, found[name])
            assert there == pytest.approx(inside[name].to_numpy(), abs=0.03)


def test_plain_gradients_do_not() -> None:
    rows = small()[(small().part == "paths") & (small().method == "NLL")]
    rows = rows[(rows.distance == 2) & (rows.ratio == 0.5)].sort_values("time")
    widest = rows.groupby("kind").variance.max()
    assert widest["plain"] > 1.2 * widest["predicted"]


def test_divergences_are_those_of_torch() -> None:
    m, P = torch.tensor([[0.3] * 4], dtype=F64), torch.tensor([[0.7] * 4], dtype=F64)
    row = forgetting.divergences(SMALL, m, P, np.zeros(1)).iloc[0]
    normal = torch.distributions.Normal
    law, data = normal(m[0, 0], P[0, 0].sqrt()), normal(torch.zeros((), dtype=F64), 1.0)
    base = normal(torch.tensor(row.distance), row.ratio**0.5)
    wanted = {
        "to_data": (data, law),
        "back_to_data": (law, data),
        "forward": (base, law),
        "reverse": (law, base),
    }
    for name, pair in wanted.items():
        assert row[name] == pytest.approx(float(torch.distributions.kl_divergence(*pair)))


# --- modes ---


def test_the_law_of_two_modes() -> None:
    law = forgetting_modes.TwoModes(torch.tensor([[0.4]], dtype=F64), torch.tensor([3.0]).double())
    y = torch.linspace(-14, 11, 20001, dtype=F64)
    log_p = law.log_density(y[None, None])[0, 0]
    p, step = log_p.exp(), float(y[1] - y[0])
    mean = float((p * y).sum() * step)
    assert float(p.sum()) * step == pytest.approx(1)
    assert float(law.mean) == pytest.approx(mean)
    variance = float((p * (y - mean) ** 2).sum() * step)
    assert float(law.trace(torch.eye(1, dtype=F64))) == pytest.approx(variance)
    # the quadrature sees a kink of the overlap
    assert float(law.entropy()) == pytest.approx(float(-(p * log_p).sum() * step), abs=1e-4)


def test_the_old_mode_goes_at_the_derived_rate() -> None:
    rows = small()[small().part == "modes"]
    odds = rows.pivot_table(index=["method", "distance", "time"], columns="kind", values="logit")
    assert len(odds) == 4 * len(forgetting_modes.times(SMALL.modes))
    assert (odds.trained - odds.predicted).abs().max() < claims.AGREES


# --- digits ---


def test_rows_of_a_split_are_apart_and_of_their_task() -> None:
    parts = forgetting_digits.rows((0, 1), 0)
    for part, digits in (
        (parts.old, range(5)),
        (parts.old_test, range(5)),
        (parts.new, range(5, 10)),
        (parts.new_test, range(5, 10)),
    ):
        assert set(part.pi.argmax(-1).flatten().tolist()) == set(digits)
        assert part.x.min() == 0
        assert part.x.max() == 1
    total = sum(part.x.shape[1] for part in (parts.old, parts.old_test, parts.new, parts.new_test))
    assert total == 1797
    # a row can occur twice in the table, but not most of them
    first, second = (set(map(tuple, x.x[0].tolist())) for x in (parts.old, parts.old_test))
    assert len(first & second) <= 2
    assert not torch.equal(parts.old.x[0], parts.old.x[1])


def test_the_learned_reward_has_the_likeliest_solution() -> None:
    new = forgetting_digits.rows((0,), 0).new
    reward, converged = forgetting_digits.learned(SMALL.digits, new)
    assert converged == [True]
    best = so.gibbs(reward, SMALL.digits.lam, new.pi)
    policy, data = so.CategoricalPolicy(64, 10), so.LabelledData(new.x[0], new.pi[0])
    likely = so.fit(policy, data, weight_decay=SMALL.digits.decay)
    assert float((best.p[0] - policy(likely.value, data.x).p).abs().max()) < 1e-5


def test_a_reference_adds_its_divergence() -> None:
    policy = so.CategoricalPolicy(2, 3)
    base = policy.init([so.generator(0)], dtype=F64)
    data = so.LabelledData.of(torch.ones(4, 2, dtype=F64), torch.tensor([0, 1, 2, 0]), 3)
    objective = forgetting_digits.WithReference(
        so.NLL(), torch.tensor([0.5, 2.0], dtype=F64), so.Reference(policy, base)
    )
    law = policy(policy.init([so.generator(1)], dtype=F64), data.x)
    p, p0 = (torch.distributions.Categorical(logits=x.log_p) for x in (law, policy(base, data.x)))
    kl = torch.distributions.kl_divergence(p, p0).mean()
    wanted = so.NLL()(law, data) + torch.tensor([0.5, 2.0], dtype=F64) * kl
    assert torch.allclose(objective(law, data), wanted)


def test_arms_share_their_base() -> None:
    start = small()[(small().part == "digits") & (small().step == 0)]
    assert (start.groupby("split").new_loss.nunique() == 1).all()
    assert start.forward_new.abs().max() < 1e-12
    assert start.new_loss.min() > 2


def test_same_seed_same_bits() -> None:
    fast = replace(SMALL.digits, splits=2, epochs=3, base_epochs=3)
    first, again, other = (forgetting_digits.run(fast, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert not first.equals(other)


# --- matched ---


def test_a_level_is_interpolated_where_it_is_first_reached() -> None:
    falling, values = np.array([4.0, 2.0, 1.0, 3.0, 0.0]), np.array([0.0, 1.0, 5.0, 7.0, 9.0])
    assert forgetting.at_level(falling, values, 3.0) == pytest.approx(0.5)
    assert forgetting.at_level(falling, values, 1.5) == pytest.approx(3.0)
    assert forgetting.at_level(falling, values, 1.0) == pytest.approx(5.0)
    assert forgetting.at_level(falling, values, 0.5) == pytest.approx(7 + 2 * 2.5 / 3)
    assert np.isnan(forgetting.at_level(falling, values, -1.0))
    assert np.isnan(forgetting.at_level(falling, values, 4.0))


def made(more: float, arms: Any = ("NLL", "PG", "NLL(p*)", "NLL+KL", "PG+KL")) -> pd.DataFrame:
    """Runs on the digits in which PG has forgotten so much more than NLL, at every level."""
    rows: list[dict[str, object]] = []
    for arm in arms:
        for w in SETTINGS.digits.weights if "KL" in arm else (0.0,):
            for split in range(8):
                for step, fallen in enumerate((8.0, 0.9, 0.4, 0.2)):
                    own = more * ("PG" in arm) + 0.01 * np.sin(split + len(arm))
                    row: dict[str, object] = {
                        "arm": arm,
                        "w": w,
                        "split": split,
                        "step": step,
                        "converged": True,
                    }
                    row |= {"new_loss": fallen, "new_error": fallen / 8}
                    row |= dict.fromkeys(forgetting_digits.MEASURES, 3 - np.log(fallen) + own)
                    rows.append(row)
    return pd.DataFrame(rows).assign(part="digits").astype({"converged": "boolean"})


SETTINGS = replace(claims.SETTINGS, digits=replace(claims.SETTINGS.digits, splits=8))


def judged(
    monkeypatch: pytest.MonkeyPatch, table: pd.DataFrame, names: Sequence[str]
) -> dict[str, Any]:
    monkeypatch.setattr(forgetting, "run", lambda settings, *, seed: table)
    monkeypatch.setattr(claims, "SETTINGS", SETTINGS)
    chosen = {claim.name.partition(".")[2]: claim for claim in claims.claims()}
    return {name: chosen[name].judge(0) for name in names}


def other_parts() -> pd.DataFrame:
    return small()[small().part != "digits"]


@pytest.mark.parametrize(
    ("more", "verdict"),
    [(0.5, Verdict.corrected), (0.0, Verdict.not_reproduced), (-0.5, Verdict.reproduced)],
)
def test_verdicts_about_the_digits_follow_the_table(
    monkeypatch: pytest.MonkeyPatch, more: float, verdict: Verdict
) -> None:
    followers = (*forgetting_digits.MEASURES, "regulariser")
    found = judged(monkeypatch, made(more), (*followers, "direction"))
    for name in followers:
        assert found[name].verdict is verdict, name
    assert (found["direction"].verdict is Verdict.reproduced) == (more > 0)


def test_one_undecided_level_is_enough_not_to_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    table = made(0.5)
    late = (table.arm == "PG") & (table.step == 3)
    table.loc[late, "old_loss"] += np.linspace(-40, 40, late.sum())
    found = judged(monkeypatch, table, ("old_loss", "old_error"))
    assert found["old_loss"].verdict is Verdict.not_reproduced
    assert found["old_error"].verdict is Verdict.corrected


def test_runs_that_did_not_converge_or_arrive_are_left_out_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = made(0.5)
    lost = (table.arm == "PG") & (table.split == 0)
    table.loc[lost, "converged"] = False
    table.loc[lost, "old_loss"] = 1e6
    table.loc[(table.arm == "PG+KL") & (table.split < 5) & (table.w > 0.05), "new_loss"] = 8.0
    found = judged(monkeypatch, table, ("old_loss", "regulariser"))
    assert found["old_loss"].verdict is Verdict.corrected
    assert "(7 pairs)" in found["old_loss"].evidence
    assert "PG (1). They are left out." in found["old_loss"].evidence
    assert "PG+KL 0.1: 3 of 8" in found["regulariser"].evidence


def test_verdicts_about_paths_and_modes_follow_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(table: pd.DataFrame, name: str) -> Verdict:
        return judged(monkeypatch, table, (name,))[name].verdict

    table = other_parts()
    assert verdict(table, "gaussian") is Verdict.corrected
    assert verdict(table, "old_mode") is Verdict.reproduced
    swapped, less, late = table.copy(), table.copy(), table.copy()
    path = table.part == "paths"
    swapped.loc[path, "method"] = swapped.loc[path, "method"].map({"NLL": "PG", "PG": "NLL"})
    assert verdict(swapped, "gaussian") is Verdict.not_reproduced
    less.loc[path & (less.method == "PG"), ["forward", "reverse"]] *= 0.1
    assert verdict(less, "gaussian") is Verdict.reproduced
    late.loc[(late.part == "modes") & (late.kind == "trained"), "logit"] += 0.1
    assert verdict(late, "old_mode") is Verdict.not_reproduced


# --- the picture ---


def test_picture_summary_and_caption() -> None:
    with style.context():
        figure = drawing.draw(small())
        figure.canvas.draw()
    plt.close(figure)
    table = pd.concat([other_parts(), made(0.5)], ignore_index=True)
    summary = drawing.summary(table)
    plain = summary[(summary.arm == "PG") & (summary.against == "NLL")]
    assert len(plain) == 6 * len(forgetting_digits.MEASURES)
    assert plain["mean"].to_numpy() == pytest.approx(0.5, abs=0.02)
    words = drawing.caption(table)
    assert "NLL has the least KL(p₀ ‖ p) at equal KL(q ‖ p) in 12 of 12 cases" in words
    assert "(left out: none)" in words
    assert "not converge" not in words
    lost = (table.arm == "PG") & (table.split == 0)
    table.loc[lost, "converged"] = False
    assert "1 of 72 runs did not converge: PG (1)" in drawing.caption(table)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: replace(SMALL, distances=(0.0, 1.0)), "distances are"),
        (lambda: forgetting_modes.Settings(weight=1.0), "weight is 1.0"),
        (lambda: forgetting_digits.Settings(splits=1), "splits is 1"),
        (lambda: forgetting_digits.Settings(weights=(0.0,)), "weights are"),
    ],
)
def test_settings_without_sense_are_refused(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()
