"""Quick pictures and other venues: what they change, and what they must not."""

import pytest
from matplotlib.image import imread

import figures
from figures import catalogue, pipeline, venues
from tests.fakes import Settings, names, texts


def test_draw_takes_quick_and_venue_and_keeps_the_style(fake, passed, tmp_path):
    quick = figures.draw("T", out=tmp_path, quick=True)
    assert (quick.axes[0].get_title(), texts(quick)) == ("0.5", [pipeline.QUICK])
    both = figures.draw("T", out=tmp_path, quick=True, unverified=True)
    assert texts(both) == [pipeline.QUICK, "unverified"]
    icml, jmlr = (figures.draw("T", out=tmp_path, venue=venue) for venue in ("icml", "jmlr"))
    assert (icml.get_size_inches()[0], jmlr.get_size_inches()[0]) == (6.75, 6.0)
    for figure, size in ((icml, 6.0), (jmlr, 7.95)):
        figure.canvas.draw()  # outside the style, as a notebook does
        sizes = [label.get_fontsize() for label in figure.axes[0].get_xticklabels()]
        assert sizes == pytest.approx([size] * 6)
    with pytest.raises(venues.UnknownVenue, match=r"'nature'; known venues: icml, neurips"):
        figures.draw("T", out=tmp_path, venue="nature")


@pytest.mark.parametrize("order", [(["T"], ["T", "--quick"]), (["T", "--quick"], ["T"])])
def test_quick_and_full_stand_side_by_side(fake, passed, call, tmp_path, order):
    first, second = order
    assert call(*first).exit_code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert call(*second).exit_code == 0
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(settings.lam for settings, _ in fake.runs) == [0.1, 0.5]
    pictures = {f"T{mark}.{e}" for mark in ("", "-quick") for e in ("pdf", "png", "txt", "json")}
    assert names(tmp_path / "out/figures") == pictures
    assert (tmp_path / "out/figures/T-quick.txt").read_text().startswith(pipeline.QUICK)
    assert pipeline.QUICK not in (tmp_path / "out/figures/T.txt").read_text()
    assert "unchanged" in call(*first).output
    assert "unchanged" in call(*second).output
    assert (len(fake.runs), fake.pictures) == (2, 2)


def test_quick_takes_a_table_of_ones_own(fake, passed, call, tmp_path):
    data = tmp_path / "mine.csv"
    data.write_text("a,b\n1,2\n")
    call("T", "--data", str(data), "--targets", "a", "--quick")
    assert fake.runs == [(Settings(lam=0.5, data=data, targets=("a",)), 0)]
    assert "T-mine-quick.pdf" in names(tmp_path / "out/figures")


def test_what_is_fast_anyway_is_drawn_in_full_by_quick(fake, passed, call, tmp_path):
    call("T-as-published")
    assert "T-as-published: unchanged" in call("T-as-published", "--quick").output
    assert fake.runs == [(Settings(lam=1.0), 0)]


def test_full_is_the_longer_protocol_where_there_is_one(fake, passed, call, tmp_path):
    assert call("--full").exit_code == 0
    assert fake.runs == [(Settings(lam=2.0), 0), (Settings(lam=1.0), 0)]
    assert {"T-full.pdf", "T-as-published.pdf"} <= names(tmp_path / "out/figures")
    call("T")
    assert fake.runs[2:] == [(Settings(), 0)]
    both = call("T", "--quick", "--full")
    assert both.exit_code == 2
    assert "not both" in both.output


def test_networks_are_trained_on_a_device_that_is_there(fake, passed, call, monkeypatch, tmp_path):
    def said(*arguments: str) -> str:
        result = call(*arguments)
        assert result.exit_code == 2
        return " ".join(result.stderr.replace("│", "").split())

    assert "--device is for figures that train networks: T" in said("--device", "cpu")
    nowhere = said("T", "--device", "meta")  # which has no values
    assert "no tensor can be on 'meta' (" in nowhere
    assert nowhere.endswith("leave --device out")
    assert call("T", "--device", "cpu").exit_code == 0
    assert fake.runs == [(Settings(), 0)]
    monkeypatch.setattr(pipeline, "check_device", lambda device: None)
    assert call("T", "--device", "cuda:1").exit_code == 0
    assert fake.runs[1:] == [(Settings(device="cuda:1"), 0)]
    assert {"T.pdf", "T-cuda-1.pdf"} <= names(tmp_path / "out/figures")


def test_venue_changes_width_and_name_but_not_the_table(fake, passed, call, tmp_path):
    pixels = 200  # per inch
    folder = tmp_path / "out/figures"
    assert call("T", "--format", "png").exit_code == 0
    icml = (folder / "T.png").read_bytes()
    assert call("T", "--venue", "neurips", "--format", "png").exit_code == 0
    assert call("T", "--venue", "icml", "--format", "png").exit_code == 0
    assert names(folder) == {f"T{v}.{e}" for v in ("", "-neurips") for e in ("png", "txt", "json")}
    assert (folder / "T.png").read_bytes() == icml
    assert imread(folder / "T.png").shape[1] == 6.75 * pixels
    assert imread(folder / "T-neurips.png").shape[1] == 5.5 * pixels
    assert (len(fake.runs), fake.pictures) == (1, 2)
    assert call("T", "--quick", "--venue", "slides").exit_code == 0
    assert "T-quick-slides.pdf" in names(folder)


def test_fingerprint_knows_venue_and_quick(fake):
    spec, other = catalogue.find("T"), catalogue.find("T-as-published")
    pictures = [
        pipeline.Picture(spec),
        pipeline.Picture(spec, quick=True),
        pipeline.Picture(spec, full=True),
        pipeline.Picture(spec, device="cuda"),
        *(pipeline.Picture(spec, venue=v) for v in venues.Venue if v != venues.DEFAULT),
    ]
    assert len({pipeline.fingerprint(picture) for picture in pictures}) == len(pictures)
    full, quick = (pipeline.fingerprint(pipeline.Picture(other, quick=q)) for q in (False, True))
    assert full == quick
