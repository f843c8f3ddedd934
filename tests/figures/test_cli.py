"""``python -m figures``: what it draws, what it refuses, and what it leaves behind."""

import json
from contextlib import contextmanager

import pytest

import figures
from figures import catalogue, pipeline
from paper_checks import gate, store
from paper_checks.experiments import parallel
from tests import fakes
from tests.fakes import BadData, Settings, names, texts


def test_draws_everything_with_captions_tables_and_provenance(fake, passed, call, tmp_path):
    result = call("--seed", "3")
    assert result.exit_code == 0, result.output
    assert fake.runs == [(Settings(), 3), (Settings(lam=1.0), 3)]
    assert "Caption at 1.0." in result.output
    assert "T: training" in result.output
    out = tmp_path / "out"
    pictures = {
        f"figures/{n}.{e}" for n in ("T", "T-as-published") for e in ("pdf", "png", "txt", "json")
    }
    tables = {f"tables/{n}.{e}" for n in ("T", "T-as-published") for e in ("md", "tex")}
    assert names(out / "figures") | names(out / "tables") >= {p.split("/")[1] for p in pictures}
    assert {n for n in names(out) if not n.startswith("results/")} == pictures | tables
    assert (out / "figures/T.txt").read_text() == "Caption at 0.1.\n"
    assert (out / "tables/T.md").read_text() == "| method | lam |\n| --- | --- |\n| NLL | 0.1 |\n"
    (parquet,) = (out / "results").glob("T-as-published-*.parquet")
    table, record = store.read(parquet)
    assert table.lam[0] == 1.0
    assert (record["gate"], record["seed"], record["settings"]["lam"]) == (passed.digest, 3, 1.0)
    assert json.loads((out / "figures/T.json").read_text())["gate"] == passed.digest


def test_unchanged_is_not_drawn_again_and_missing_is(fake, passed, call, tmp_path):
    call()
    assert "unchanged" in call().output
    assert (len(fake.runs), fake.pictures) == (2, 2)
    (tmp_path / "out/figures/T.png").unlink()
    call()
    assert (len(fake.runs), fake.pictures) == (2, 3)
    call("T", "--seed", "1")
    assert (len(fake.runs), fake.pictures) == (3, 4)


def test_formats_can_be_chosen_and_added(fake, passed, call, tmp_path):
    assert call("T", "--format", "png").exit_code == 0
    assert names(tmp_path / "out/figures") == {"T.png", "T.txt", "T.json"}
    assert call("T").exit_code == 0
    assert {"T.png", "T.pdf"} <= names(tmp_path / "out/figures")
    assert fake.pictures == 2
    assert call("T", "--format", "pdf").exit_code == 0
    assert fake.pictures == 2


def test_failed_gate_draws_nothing(fake, call, tmp_path, monkeypatch):
    def fail(out):
        raise gate.GateFailed("tests.test_gate::test_identity lam=1.0")

    monkeypatch.setattr(gate, "run", fail)
    result = call()
    assert result.exit_code == 1
    assert "test_identity lam=1.0" in result.stderr
    assert (fake.runs, names(tmp_path / "out")) == ([], set())


def test_unverified_skips_the_gate_marks_the_picture_and_does_not_pass_for_verified(
    fake, passed, call, tmp_path, monkeypatch
):
    png = tmp_path / "out/figures/T.png"
    with monkeypatch.context() as patch:
        patch.setattr(gate, "recorded", None)
        patch.setattr(gate, "run", None)
        assert call("T", "--unverified").exit_code == 0
    marked = png.read_bytes()
    assert json.loads((tmp_path / "out/figures/T.json").read_text())["gate"] == "unverified"
    assert call("T").exit_code == 0
    assert png.read_bytes() != marked
    assert (len(fake.runs), fake.pictures) == (1, 2)


def test_own_table_is_passed_on_and_does_not_overwrite(fake, passed, call, tmp_path):
    data = tmp_path / "mine.csv"
    data.write_text("a,b\n1,2\n")
    arguments = ("T", "--data", str(data), "--targets", "a, b")
    assert call(*arguments).exit_code == 0
    assert fake.runs[-1][0] == Settings(data=data, targets=("a", "b"))
    assert "T-mine.pdf" in names(tmp_path / "out/figures")
    call(*arguments)
    assert len(fake.runs) == 1
    data.write_text("a,b\n1,3\n")
    call(*arguments)
    assert len(fake.runs) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Z"], "unknown figure 'Z'; known figures: T, T-as-published"),
        (["T", "Z"], "unknown figure 'Z'"),
        (["--seed", "-1"], "'--seed': Input should be greater than or equal to 0"),
        (["--format", "svg"], "svg"),
        (["--venue", "nature"], "'nature' is not one of 'icml', 'neurips'"),
        (["T", "--data", "{here}"], "--targets"),
        (["T", "--targets", "a"], "--data"),
        (["T", "--data", "no-such.csv", "--targets", "a"], "no-such.csv"),
        (["T-as-published", "--data", "{here}", "--targets", "a"], "takes a table of your own: T"),
        (["--data", "{here}", "--targets", "a"], "one figure alone"),
    ],
)
def test_bad_usage_is_named_before_any_work(fake, call, tmp_path, arguments, message):
    result = call(*(a.format(here=__file__) for a in arguments))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert (fake.runs, (tmp_path / "out").exists()) == ([], False)


def test_unwritable_out_is_named_before_any_work(fake, tmp_path):
    (tmp_path / "taken").write_text("")
    result = fakes.command_line(tmp_path / "taken")("T")
    assert result.exit_code == 2
    assert f"cannot write to {tmp_path / 'taken'}" in result.stderr
    assert fake.runs == []


def test_bad_data_gives_one_line_and_a_bug_its_traceback(fake, passed, call):
    fake.error = BadData("column 'a' holds NaN in row 3; drop or fill it")
    result = call("T")
    assert result.exit_code == 2
    assert result.stderr == "column 'a' holds NaN in row 3; drop or fill it\n"
    fake.error = ValueError("operands could not be broadcast")
    assert call("T").exception is fake.error


def test_interrupt_ends_with_130_and_complete_files(fake, passed, call, tmp_path):
    assert call("T").exit_code == 0
    before = names(tmp_path / "out")
    fake.error = KeyboardInterrupt()
    result = call("T-as-published")
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert names(tmp_path / "out") == before


def test_draw_returns_the_picture_for_a_notebook(fake, passed, tmp_path):
    figure = figures.draw("T", out=tmp_path)
    assert figure.axes[0].get_title() == "0.1"
    assert not figure.texts
    assert texts(figures.draw("T", out=tmp_path, unverified=True)) == ["unverified"]
    with pytest.raises(catalogue.UnknownFigure, match="known figures: T, T-as-published"):
        figures.draw("Z", out=tmp_path)


def test_list_names_every_figure_of_the_real_catalogue(call):
    result = call("--list")
    assert result.exit_code == 0
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    assert lines == [[spec.name, f"{spec.title} ({spec.time})"] for spec in catalogue.CATALOGUE]
    assert max(map(len, result.stdout.splitlines())) <= 100
    times = dict(lines)
    assert times["figure-2"].endswith("(about 10 s)")
    assert times["tables-1-2"].endswith("(about 3 min)")
    assert {"figure-1-as-published", "figure-2-grid", "full-covariance"} <= set(times)


def test_every_entry_of_the_catalogue_finds_what_it_names():
    for spec in catalogue.CATALOGUE:
        experiment = pipeline.import_module(spec.experiment)
        drawing = pipeline.import_module(spec.drawing)
        assert callable(experiment.run)
        assert hasattr(experiment, "AS_PUBLISHED") == hasattr(experiment, "CORRECTED")
        for quick, full in ((False, False), (True, False), (False, True)):
            picture = pipeline.Picture(spec, quick=quick, full=full)
            assert pipeline.settings(experiment, picture)
        if spec.on_device:
            elsewhere = pipeline.Picture(spec, device="cuda:1")
            assert pipeline.settings(experiment, elsewhere).device == "cuda:1"
        for kind in ("draw", "caption", "summary"):
            assert callable(getattr(drawing, spec.function(kind)))
    assert len({spec.name for spec in catalogue.CATALOGUE}) == len(catalogue.CATALOGUE)


@pytest.mark.parametrize(
    ("former", "name"),
    [
        ("A", "figure-2"),
        ("b", "figure-1"),
        ("A-grid-as-published", "figure-2-grid-as-published"),
        ("R", "wrong-covariance"),
    ],
)
def test_a_former_name_is_told_the_new_one(call, former, name):
    result = call(former)
    assert result.exit_code == 2
    message = " ".join(result.stderr.replace("│", "").split())
    assert f"unknown figure '{former}': it is called '{name}' now" in message
    assert catalogue.find(name).name == name
    with pytest.raises(catalogue.UnknownFigure, match="known figures: figure-1, "):
        catalogue.find(f"{former}-else")


def test_a_bad_table_of_ones_own_is_refused_before_the_gate(fake, call, monkeypatch, tmp_path):
    def no_gate(*_):
        raise AssertionError("the gate ran")

    monkeypatch.setattr(gate, "recorded", no_gate)
    data = tmp_path / "mine.csv"
    data.write_text("bad\n")
    result = call("T", "--data", str(data), "--targets", "a")
    assert result.exit_code == 2
    assert "the table is bad: mend it" in result.output
    assert not fake.runs


@pytest.mark.parametrize("options", [("--address", "auto"), ("--engine", "cluster")])
def test_an_engine_that_is_none_is_refused_before_any_work(fake, passed, call, options):
    result = call("T", *options)
    assert result.exit_code == 2
    assert "--engine" in result.output
    assert not fake.runs


def test_experiments_run_on_the_engine_that_was_asked_for(fake, passed, call, monkeypatch):
    asked: list[tuple[str, str | None]] = []

    @contextmanager
    def on(name: str, address: str | None = None):
        asked.append((str(name), address))
        yield

    monkeypatch.setattr(parallel, "on", on)
    assert call("T").exit_code == 0
    assert call("T", "--seed", "1", "--engine", "ray", "--address", "auto").exit_code == 0
    assert asked == [("local", None), ("ray", "auto")]
