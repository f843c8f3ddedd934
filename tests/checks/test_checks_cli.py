"""``python -m paper_checks``: what it prints where, and how it ends."""

import json
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from paper_checks import __main__ as cli
from paper_checks import store
from paper_checks.claims import catalogue
from paper_checks.claims.claim import Claim, Judgement, Verdict
from paper_checks.statistics import Interval


@pytest.fixture
def judged(monkeypatch) -> list[tuple[str, int]]:
    """Three claims in place of the real ones; records what was judged with which seed."""
    seen: list[tuple[str, int]] = []

    def claim(name: str, expected: Verdict, verdict: Verdict) -> Claim:
        def judge(seed: int) -> Judgement:
            seen.append((name, seed))
            return Judgement(verdict, f"[evidence] of {name}", 0.25, Interval(0, 1, 0.95), 0.5)

        return Claim(name, f"statement of {name}", "figure T", expected, judge)

    claims = (
        claim("proposition.a", Verdict.proved, Verdict.proved),
        claim("figure_t.b", Verdict.corrected, Verdict.corrected),
        claim("figure_t.wrong", Verdict.reproduced, Verdict.not_reproduced),
    )
    monkeypatch.setattr(catalogue, "all_claims", lambda: claims)
    return seen


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """Leave nothing in the checkout."""
    monkeypatch.chdir(tmp_path)


def call(*arguments: str):
    return CliRunner().invoke(cli.app, list(arguments))


def test_an_overview_comes_first_and_names_what_is_a_surprise(judged):
    result = call()
    assert result.exit_code == 1
    assert "wrong (expected: reproduced)" in result.stdout
    assert "[evidence]" not in result.stdout
    assert result.stdout.splitlines()[-1].startswith("3 claims: 1 proved")


def test_the_table_shows_everything_and_a_surprise_ends_with_1(judged):
    result = call("--seed", "3", "--details")
    assert result.exit_code == 1
    assert judged == [("proposition.a", 3), ("figure_t.b", 3), ("figure_t.wrong", 3)]
    text = result.stdout
    assert max(len(line) for line in text.splitlines()[:-1]) <= cli.WIDTH
    for word in ("proposition.a", "statement of figure_t.b", "(figure T)", "[evidence]", "0.25",
                 "[0, 1]", "published 0.5", "not reproduced"):  # fmt: skip
        assert word in text
    assert "expected:" in text
    assert text.splitlines()[-1] == (
        "3 claims: 1 proved, 1 not reproduced, 1 corrected; NOT as expected: figure_t.wrong"
    )
    assert result.stderr.splitlines()[0].startswith("proposition.a: proved (")


def test_as_expected_ends_with_0_and_only_selects_by_prefix(judged):
    result = call("--only", "prop", "--only", "figure_t.b")
    assert result.exit_code == 0
    assert [name for name, _ in judged] == ["proposition.a", "figure_t.b"]
    assert "[evidence]" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("; all as expected")


def test_an_unknown_name_ends_with_2_before_any_work(judged):
    result = call("--only", "figure_z", "--only", "prop")
    assert result.exit_code == 2
    assert "unknown claim 'figure_z'" in result.stderr
    assert "proposition.a, figure_t.b, figure_t.wrong" in result.stderr
    assert judged == []


@pytest.mark.parametrize(
    ("former", "name"),
    [("figure_c", "full-covariance"), ("figure_b.stability", "figure-1.stability")],
)
def test_a_former_name_is_told_the_new_one(former, name):
    result = call("--only", former)
    assert result.exit_code == 2
    assert f"unknown claim '{former}': these begin with '{name}' now" in result.stderr
    assert catalogue.select(catalogue.all_claims(), [name])


def test_json_is_alone_on_stdout(judged):
    result = call("--json", "--only", "figure_t")
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert [claim["verdict"] for claim in content["claims"]] == ["corrected", "not reproduced"]
    assert content["as_expected"] is False
    assert "figure_t.b: corrected" in result.stderr


def test_verdicts_on_all_claims_are_kept(judged, tmp_path):
    out = tmp_path / "kept"
    printed = call("--json", "--seed", "3", "--out", str(out)).stdout
    kept = (out / "claims.json").read_text()
    assert kept == printed
    content = json.loads(kept)
    assert (content["seed"], len(content["claims"])) == (3, 3)
    assert {"commit", "dirty", "versions"} == set(content["provenance"])
    assert call("--only", "prop", "--out", str(out)).exit_code == 0
    assert (out / "claims.json").read_text() == kept
    assert [path.name for path in out.iterdir()] == ["claims.json"]


def test_a_foreign_file_or_folder_is_named_before_any_work(judged, tmp_path):
    (tmp_path / "claims.json").write_text('["mine"]')
    result = call("--out", str(tmp_path))
    assert result.exit_code == 2
    assert "claims.json does not hold seed, claims" in result.stderr
    assert "cannot write to" in call("--out", str(tmp_path / "claims.json")).stderr
    assert (tmp_path / "claims.json").read_text() == '["mine"]'
    assert judged == []


def test_list_judges_nothing(judged):
    result = call("--list", "--only", "figure_t")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "figure_t.b"
    assert lines[1].strip() == "statement of figure_t.b"
    listed = json.loads(call("--list", "--json").stdout)
    assert [claim["name"] for claim in listed] == ["proposition.a", "figure_t.b", "figure_t.wrong"]
    assert judged == []


def test_bad_seed_is_named(judged):
    assert "--seed" in call("--seed", "-1").stderr
    assert judged == []


def test_conform_is_a_command_of_its_own(judged):
    result = call("conform", "--help")
    assert result.exit_code == 0
    assert "TARGET" in result.stdout or "MODULE:FUNCTION" in result.stdout
    assert call("conform", "no_colon").exit_code == 2
    assert judged == []


def test_every_real_claim_is_listed():
    result = call("--list")
    names = [line for line in result.stdout.splitlines() if not line.startswith(" ")]
    some = {"proposition.optimal_reward.full", "figure-2.target", "figure-1.direction.mean"}
    assert some | {"full-covariance.optimum"} <= set(names)


SLEEPS = """
import signal, sys, time
from paper_checks import __main__ as cli
from paper_checks.claims import catalogue
from paper_checks.claims.claim import Claim, Judgement, Verdict
def claim(name, judge):
    return Claim(name, "", "", Verdict.proved, judge)
catalogue.all_claims = lambda: (
    claim("quick", lambda seed: Judgement(Verdict.proved, "")),
    claim("slow", lambda seed: time.sleep(60)),
)
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell ran with &
sys.argv[1:] = ["--out", sys.argv[1]]
cli.main()
"""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_process_with_130(kind, tmp_path):
    command = [sys.executable, "-u", "-c", SLEEPS, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=store.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "quick: proved" in process.stderr.readline()
        process.send_signal(kind)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_the_module_imports_neither_torch_nor_sympy():
    """So that `main` can set the threads of torch first, and `--help` is quick."""
    script = (
        "import sys; import paper_checks.__main__\n"
        "print(sorted({'torch', 'sympy', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=store.ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
