"""Files in the output folder that are damaged, or not ours: named, never overwritten."""

import json

import pytest

import figures
from paper_checks import gate, store


@pytest.fixture
def out(tmp_path):
    return tmp_path / "Größe und Ort"


@pytest.mark.parametrize(
    "name", ["figures/T.png", "figures/T.pdf", "figures/T.txt", "tables/T.md", "tables/T.tex"]
)
@pytest.mark.parametrize("folder", [False, True])
def test_a_file_of_the_users_own_is_kept(fake, call, out, monkeypatch, name, folder):
    monkeypatch.setattr(gate, "recorded", None)  # refused before the gate
    path = out / name
    path.parent.mkdir(parents=True)
    path.mkdir() if folder else path.write_text("mine")
    result = call("T")
    assert result.exit_code == 2
    assert f"{name} in {out} would be overwritten" in result.stderr
    assert fake.runs == []
    assert folder or path.read_text() == "mine"


def test_what_is_ours_is_overwritten_even_by_other_formats(fake, passed, call, out):
    assert call("T").exit_code == 0
    assert call("T", "--seed", "1", "--format", "png").exit_code == 0
    result = call("T", "--seed", "2")
    assert result.exit_code == 0, result.stderr
    record = json.loads((out / "figures/T.json").read_text())
    assert set(record["written"]) == {
        *(f"figures/T.{extension}" for extension in ("pdf", "png", "txt")),
        *(f"tables/T.{extension}" for extension in ("md", "tex")),
    }


def test_an_interrupted_run_is_taken_up_again(fake, passed, call, out, monkeypatch):
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("figures.tables.markdown", interrupted)
        assert call("T").exit_code == 130
    assert (out / "figures/T.png").exists()
    assert call("T").exit_code == 0
    assert (len(fake.runs), fake.pictures) == (1, 2)


@pytest.mark.parametrize(
    "content",
    [b"", b'{"fingerprint": "a', b"[]", b'{"a": 1}', b'{"fingerprint": "", "files": 3}', b"\xff"],
)
def test_a_damaged_record_is_named_and_kept(fake, passed, call, out, content):
    assert call("T").exit_code == 0
    (out / "figures/T.json").write_bytes(content)
    result = call("T")
    assert result.exit_code == 2
    assert "T.json" in result.stderr
    assert "damaged, or not of this project; move or delete it" in result.stderr
    assert (out / "figures/T.json").read_bytes() == content


@pytest.mark.parametrize("damage", ["cut", "empty", "folder", "provenance"])
def test_a_damaged_table_is_named(fake, passed, call, out, damage):
    assert call("T").exit_code == 0
    (path,) = (out / "results").glob("*.parquet")
    content = path.read_bytes()
    (out / "figures/T.png").unlink()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "provenance":
        import pyarrow as pa
        from pyarrow import parquet

        schema = {b"bimle.provenance": b'{"key'}
        parquet.write_table(pa.table({"a": [1]}).replace_schema_metadata(schema), path)
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    result = call("T")
    assert result.exit_code == 2
    assert path.name in result.stderr
    assert "delete it and run again" in result.stderr
    assert fake.pictures == 1
    with pytest.raises(store.StoreError, match="delete it and run again"):
        figures.draw("T", out=out)


def test_a_csv_of_the_users_own_is_kept(fake, passed, call, out):
    assert call("T").exit_code == 0
    (path,) = (out / "results").glob("*.parquet")
    path.unlink()
    (out / "figures/T.png").unlink()
    path.with_suffix(".csv").write_text("a,b\n# key: 1,2\n")
    result = call("T")
    assert result.exit_code == 2
    assert f"{path.with_suffix('.csv')} was not written by this store" in result.stderr
    assert len(fake.runs) == 1


@pytest.mark.parametrize("name", ["results", "figures", "tables"])
def test_a_file_where_a_folder_should_be(fake, passed, call, out, name):
    out.mkdir()
    (out / name).write_text("mine")
    result = call("T")
    assert result.exit_code == 2
    assert f"{out / name}" in result.stderr
    assert "Traceback" not in result.output
    assert (out / name).read_text() == "mine"


def test_a_name_that_is_too_long_for_the_system(fake, passed, call, tmp_path):
    data = tmp_path / f"{'n' * 230}.csv"
    data.write_text("a,b\n1,2\n")
    result = call("T", "--data", str(data), "--targets", "a")
    assert result.exit_code == 2
    assert "File name too long" in result.stderr


def test_a_full_disk_is_named(fake, passed, call, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    result = call("T")
    assert result.exit_code == 2
    assert "No space left on device; make room for it, or pass another folder" in result.stderr


@pytest.mark.parametrize("content", ["", "[1]", '{"digest": 1}'])
def test_a_damaged_record_of_the_gate_is_named_and_kept(fake, call, out, content):
    out.mkdir()
    (out / "gate.json").write_text(content)
    result = call("T")
    assert result.exit_code == 2
    assert "gate.json" in result.stderr
    assert (out / "gate.json").read_text() == content
    assert fake.runs == []
