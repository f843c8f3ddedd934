"""Transitions of simulators: collecting, Minari's format, reading, streaming, splits, refusals."""

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import jaxtyping
import minari
import mujoco
import numpy as np
import pytest
import torch
from gymnasium.envs.mujoco import MujocoEnv
from minari.storage import hosting
from typer.testing import CliRunner

from solvers.errors import InputError, NonFiniteError
from solvers.tasks import collect as collecting
from solvers.tasks import controllers, dynamics, simulators, train_controllers
from solvers.tasks.collect import NOISE, app, collect
from solvers.tasks.dynamics import Transitions
from solvers.tasks.minari_files import folder
from solvers.tasks.minari_writer import Episode
from solvers.tasks.simulators import simulator
from solvers.tasks.transitions import batches, join

STEPS = {"halfcheetah": 300, "hopper": 700, "walker2d": 300}
NAMES = [(environment, "simple") for environment in STEPS]


@pytest.fixture(autouse=True)
def _no_folder_of_the_user(monkeypatch, tmp_path: Path) -> None:
    """What is not told where to look finds an empty folder."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "default"))


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("datasets")
    for environment, quality in NAMES:
        collect(environment, quality, transitions=STEPS[environment], seed=1, root=made)
    return made


@pytest.fixture(scope="session")
def hopper(root: Path) -> Transitions:
    return dynamics.load("hopper", "simple", root=root)


def same(one: Transitions, two: Transitions) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(vars(one).values(), vars(two).values(), strict=True)
    )


def made_up(lengths: list[int]) -> Transitions:
    """Return steps of episodes of these lengths, whose first observed column numbers them."""
    N = sum(lengths)
    episode = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    step = torch.cat([torch.arange(length) for length in lengths])
    x = torch.arange(2.0 * N).reshape(N, 2)
    return Transitions(x, x[:, :1], x + 1, episode, step, step < 0, step < 0)


# Collecting


@pytest.mark.parametrize(("environment", "quality"), NAMES)
def test_minari_reads_what_was_collected(environment, quality, root: Path, monkeypatch) -> None:
    """By its own loader, and steps of the same numbers; it makes the environment again."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    name = f"mujoco/{environment}/{quality}-v0"
    theirs = minari.load_dataset(name)
    ours = dynamics.load(environment, quality)
    assert name in minari.list_local_datasets()
    assert theirs.total_steps == len(ours) == STEPS[environment]
    assert theirs.total_episodes == int(ours.episode[-1]) + 1
    assert theirs.spec.env_spec.id == simulators.SIMULATORS[environment]
    for episode in theirs.iterate_episodes():
        rows = ours.rows((ours.episode == episode.id).nonzero()[:, 0])
        assert len(episode.observations) == len(episode.actions) + 1 == len(rows) + 1
        assert np.array_equal(episode.observations[:-1], rows.observation)
        assert np.array_equal(episode.observations[1:], rows.next_observation)
        assert np.array_equal(episode.actions, rows.action)
        assert np.array_equal(episode.terminations, rows.terminated)
        assert np.array_equal(episode.truncations, rows.truncated)
        assert rows.step.tolist() == list(range(len(rows)))


@pytest.mark.parametrize(("environment", "quality"), NAMES)
def test_the_simulator_does_what_was_recorded(environment, quality, root: Path) -> None:
    """From the recorded seed, the recorded actions lead through the recorded observations."""
    path = root / f"mujoco/{environment}/{quality}-v0/data/main_data.hdf5"
    with h5py.File(path) as file, simulator(environment) as env:
        group = file["episode_0"]
        observations, rewards = group["observations"][:], group["rewards"][:]
        observation, _ = env.reset(seed=int(group.attrs["seed"]))
        assert np.array_equal(observation, observations[0])
        for step, action in enumerate(group["actions"][:]):
            observation, reward, terminated, _, _ = env.step(action)
            assert np.array_equal(observation, observations[step + 1])
            assert reward == rewards[step]
            assert terminated == group["terminations"][step]


def test_the_half_cheetah_is_cut_and_the_hopper_falls(root: Path, hopper: Transitions) -> None:
    cheetah = dynamics.load("halfcheetah", "simple", root=root)
    assert not cheetah.terminated.any()
    assert cheetah.truncated.nonzero().flatten().tolist() == [STEPS["halfcheetah"] - 1]
    ends = torch.cat([hopper.episode.diff() > 0, torch.tensor([True])])
    assert torch.equal(hopper.terminated | hopper.truncated, ends)
    assert not (hopper.terminated & hopper.truncated).any()
    assert hopper.terminated.sum() == ends.sum() - 1  # the last one was cut
    assert hopper.truncated[-1]


def test_an_episode_is_cut_after_1000_steps(tmp_path: Path) -> None:
    collect("halfcheetah", "medium", transitions=1003, root=tmp_path)
    steps = dynamics.load("halfcheetah", "medium", root=tmp_path)
    assert steps.truncated.nonzero().flatten().tolist() == [999, 1002]
    assert steps.episode[999:1001].tolist() == [0, 1]
    assert not torch.equal(steps.next_observation[999], steps.observation[1000])


def test_the_same_seed_gives_the_same_bits(root: Path, tmp_path: Path, hopper) -> None:
    for seed, name in ((1, "again"), (2, "other")):
        collect("hopper", "simple", transitions=700, seed=seed, root=tmp_path / name)
    relative = "mujoco/hopper/simple-v0/data/main_data.hdf5"
    assert (tmp_path / "again" / relative).read_bytes() == (root / relative).read_bytes()
    other = dynamics.load("hopper", "simple", root=tmp_path / "other")
    assert not same(other, hopper)


def test_actions_are_those_of_the_controller_and_noise(hopper: Transitions) -> None:
    controller = controllers.read("hopper", "simple")
    found = hopper.action.numpy()
    raw = hopper.observation.numpy() @ controller.K.T + controller.k
    noise = (found - np.clip(raw, -1, 1))[(np.abs(raw) < 0.5)]
    assert len(noise) > 100
    assert noise.std() == pytest.approx(NOISE, rel=0.2)
    assert np.abs(found).max() <= 1
    assert np.array_equal(found, found.astype(np.float32))


def test_the_file_says_how_good_the_controllers_are() -> None:
    for environment in dynamics.ENVIRONMENTS:
        text = (controllers.FOLDER / f"{environment}.json").read_text(encoding="ascii")
        means = {
            quality: found["return_mean"]
            for quality, found in json.loads(text)["controllers"].items()
        }
        assert tuple(means) == dynamics.QUALITIES
        assert means["simple"] < means["medium"] < means["expert"]
        with simulator(environment) as env:
            expert = controllers.read(environment, "expert")
            (total,) = train_controllers.returns(env.unwrapped, expert, range(7, 8))
        assert total == pytest.approx(means["expert"], rel=0.3)


class Follow(gymnasium.Env):
    """Five steps whose best action is half the first observed coordinate, less the second."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 5
        self.seen = self.np_random.uniform(-1, 1, 2)
        return self.seen, {}

    def step(self, action):
        reward = -((action[0] - 0.5 * self.seen[0] + self.seen[1]) ** 2)
        self.left -= 1
        self.seen = self.np_random.uniform(-1, 1, 2)
        return self.seen, reward, self.left == 0, False, {}


@pytest.mark.parametrize("seed", [True, None, "0", 1.5, -1, 2**64])
def test_no_seed_of_a_search_but_a_whole_number(monkeypatch: pytest.MonkeyPatch, seed: Any) -> None:
    # as users run, without the type checks of conftest.py, which would speak up first
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    settings = train_controllers.SETTINGS["hopper"]
    with pytest.raises(InputError, match="seed is"):
        train_controllers.search(Follow(), settings, seed)


def test_random_search_climbs_and_is_seeded() -> None:
    settings = train_controllers.Settings(bonus=0.0, step=0.1, radius=0.1, iterations=20)
    runs = [train_controllers.search(Follow(), settings, seed) for seed in (0, 0)]
    values = [value for _, value in runs[0]]
    assert values == [value for _, value in runs[1]]
    assert len(values) == 5
    assert -0.1 < max(values) < 0
    assert values[0] < -0.5
    chosen = train_controllers.choose(runs[0])
    assert tuple(chosen) == dynamics.QUALITIES
    assert chosen["expert"] is runs[0][int(np.argmax(values))][0]
    np.testing.assert_allclose(chosen["expert"].K, [[0.5, -1.0]], atol=0.2)


def test_qualities_are_shares_of_the_gain_over_no_control() -> None:
    """The first one found is none; of returns 10, 30, 60, 110 those are 20, 50, 100."""
    found = [(controllers.Controller(np.full((1, 1), v), np.zeros(1)), 10.0 + v)
             for v in (0.0, 20.0, 50.0, 100.0)]  # fmt: skip
    chosen = train_controllers.choose(found)
    for quality, share in train_controllers.SHARES.items():
        nearest = min((0.0, 20.0, 50.0, 100.0), key=lambda v, s=share: abs(v - 100 * s))
        assert chosen[quality].K[0, 0] == nearest


def test_nothing_is_left_of_a_collection_that_fails(tmp_path: Path, monkeypatch) -> None:
    calls: list[int] = []

    def fall(self: controllers.Controller, observation: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) == 50:
            raise KeyboardInterrupt
        return 0 * self.k

    monkeypatch.setattr(controllers.Controller, "__call__", fall)
    with pytest.raises(KeyboardInterrupt):
        collect("halfcheetah", "simple", transitions=100, root=tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
    with pytest.raises(dynamics.NoDataError):
        dynamics.load("halfcheetah", "simple", root=tmp_path)


def test_a_collection_that_is_overtaken(tmp_path: Path, monkeypatch) -> None:
    """Another process has written the same dataset in the meantime: that one stays."""
    run = collecting.run

    def overtake(*arguments) -> Episode:
        monkeypatch.setattr(collecting, "run", run)
        collect("halfcheetah", "simple", transitions=7, root=tmp_path)
        return run(*arguments)

    monkeypatch.setattr(collecting, "run", overtake)
    with pytest.raises(InputError, match="is there already"):
        collect("halfcheetah", "simple", transitions=9, root=tmp_path)
    assert len(dynamics.load("halfcheetah", "simple", root=tmp_path)) == 7
    assert [path.name for path in tmp_path.glob("mujoco/halfcheetah/*")] == ["simple-v0"]


def test_what_mujoco_warns_of_is_a_warning(tmp_path: Path, monkeypatch) -> None:
    """And no file in the current folder; the one about the model is known and not repeated."""
    monkeypatch.chdir(tmp_path)
    with simulator("halfcheetah") as env:
        env.reset(seed=0)
        cheetah = env.unwrapped
        assert isinstance(cheetah, MujocoEnv)
        cheetah.data.qpos[2] = np.nan
        with pytest.warns(RuntimeWarning, match="MuJoCo: "):
            env.step(np.zeros(6, dtype=np.float32))
    assert mujoco.get_mju_user_warning() is None
    assert not list(tmp_path.glob("MUJOCO*"))


# The command


def command(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "400"})
    return done.exit_code, done.output


def test_the_command_that_the_message_names(tmp_path: Path) -> None:
    with pytest.raises(dynamics.NoDataError) as caught:
        dynamics.load("halfcheetah", "expert", root=tmp_path)
    words = str(caught.value).split("`")[1].split()
    assert words[:3] == ["python", "-m", "solvers.tasks.collect"]
    code, output = command(*words[3:], "--transitions", "20", "--seed", "3")
    assert code == 0, output
    assert "20 steps in" in output
    assert len(dynamics.load("halfcheetah", "expert", root=tmp_path)) == 20


def test_the_default_folder(tmp_path: Path, monkeypatch) -> None:
    assert command("halfcheetah", "simple", "--transitions", "5")[0] == 0
    assert len(dynamics.load("halfcheetah", "simple")) == 5
    assert (tmp_path / "default/mujoco/halfcheetah/simple-v0").is_dir()
    monkeypatch.delenv("MINARI_DATASETS_PATH")
    assert folder(None) == Path.home() / ".minari" / "datasets"
    assert folder(tmp_path) == tmp_path


def test_what_is_there_is_not_replaced(root: Path) -> None:
    code, output = command("hopper", "simple", "--root", str(root))
    assert code == 2
    assert "is there already: remove it, or pass another root" in output


@pytest.mark.parametrize(
    ("environment", "quality", "words"),
    [
        (
            "humanoid",
            "expert",
            "environment is 'humanoid' .*pass one of 'halfcheetah', 'hopper', 'w",
        ),
        ("hopper", "random", "quality is 'random' .*pass one of 'simple', 'medium', 'expert'"),
        ("hopper", "expert", "transitions is 0: pass at least 1"),
    ],
)
def test_bad_collections_are_refused(environment, quality, words, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        collect(environment, quality, transitions=0, root=tmp_path)
    assert not list(tmp_path.iterdir())


# Reading


@pytest.mark.parametrize("read", [dynamics.load, lambda *a, **k: dynamics.stream(*a, batch=5, **k)])
def test_what_is_not_there(read: Callable[..., object], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="environment is 'ant'"):
        read("ant", "expert", root=tmp_path)
    with pytest.raises(InputError, match="quality is 'best'"):
        read("hopper", "best", root=tmp_path)
    with pytest.raises(InputError, match=r"dtype is torch\.float16"):
        read("hopper", "expert", root=tmp_path, dtype=torch.float16)
    where = (
        f"no dataset mujoco/hopper/expert-v0 in {tmp_path}: run `python -m solvers.tasks.collect"
    )
    with pytest.raises(dynamics.NoDataError, match=f"{where} hopper expert --root {tmp_path}`"):
        read("hopper", "expert", root=tmp_path)
    with pytest.raises(dynamics.NoDataError, match="collect hopper expert` to"):
        read("hopper", "expert")


@pytest.mark.parametrize("missing", ["minari", "h5py"])
def test_without_the_extra(missing: str, root: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(dynamics.MissingExtraError, match=rf"{missing}.*`pip install -e '.\[dynam"):
        dynamics.load("hopper", "simple", root=root)


@pytest.mark.parametrize("missing", ["gymnasium", "mujoco"])
def test_collecting_without_the_extra(missing: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    code, output = command("hopper", "simple", "--root", str(tmp_path))
    assert code == 2
    assert "pip install -e '.[dynamics]'" in output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["dynamics", "collect", "train_controllers", "minari_writer"])
def test_importing_needs_no_extra(name: str, monkeypatch) -> None:
    for missing in ("gymnasium", "mujoco", "minari", "h5py"):
        monkeypatch.setitem(sys.modules, missing, None)
    spec = importlib.util.find_spec(f"solvers.tasks.{name}")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_single_precision(root: Path, hopper: Transitions) -> None:
    single = dynamics.load("hopper", "simple", root=root, dtype=torch.float32)
    assert single.observation.dtype == single.action.dtype == torch.float32
    assert torch.equal(single.next_observation, hopper.next_observation.float())


def test_a_download(root: Path, tmp_path: Path, monkeypatch) -> None:
    """Minari is asked for it by name, and told the folder; then it is read from there."""
    asked: list[str] = []

    def download(name: str) -> None:
        asked.append(name)
        shutil.copytree(root / name, Path(os.environ["MINARI_DATASETS_PATH"]) / name)

    monkeypatch.setattr(hosting, "download_dataset", download)
    for top in (tmp_path / "here", None):
        for _ in range(2):  # the second time it is there
            found = dynamics.load("walker2d", "simple", root=top, download=True)
            assert same(found, dynamics.load("walker2d", "simple", root=root))
    assert asked == 2 * ["mujoco/walker2d/simple-v0"]
    assert os.environ["MINARI_DATASETS_PATH"] == str(tmp_path / "default")
    monkeypatch.delenv("MINARI_DATASETS_PATH")
    dynamics.load("walker2d", "simple", root=tmp_path / "there", download=True)
    assert "MINARI_DATASETS_PATH" not in os.environ


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (OSError("no route"), dynamics.NoDataError, "could not be downloaded: no route; run `pyth"),
        (ValueError("no version"), dynamics.NoDataError, "no version; run `python -m solvers.task"),
        (ImportError("no hub"), dynamics.MissingExtraError, "no hub; without a network, run `pyth"),
    ],
)
def test_a_download_that_fails(error, raised, words, tmp_path: Path, monkeypatch) -> None:
    def download(name: str) -> None:
        raise error

    monkeypatch.setattr(hosting, "download_dataset", download)
    with pytest.raises(raised, match=words):
        dynamics.load("hopper", "expert", root=tmp_path, download=True)


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_errors_of_the_network_that_are_no_oserror(name: str, tmp_path: Path, monkeypatch) -> None:
    class HTTPError(Exception):
        """As of httpx."""

    def download(_: str) -> None:
        raise HTTPError("no name server")

    module = type(sys)(name)
    module.HTTPError = HTTPError
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(hosting, "download_dataset", download)
    with pytest.raises(dynamics.NoDataError, match="no name server; run `python"):
        dynamics.load("hopper", "expert", root=tmp_path, download=True)


def put(group: h5py.Group, name: str, values: np.ndarray) -> None:
    del group[name]
    group[name] = values


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: f.clear(), "holds no episode"),
        (lambda f: f.move("episode_1", "episode_99"), "but no episode_1: they must be numbered"),
        (lambda f: f["episode_1"].pop("actions"), "episode_1 has no actions"),
        (
            lambda f: put(f["episode_0"], "actions", f["episode_0"]["actions"][:, 0]),
            "episode_0/actions is no array of 2 dimensions",
        ),
        (
            lambda f: put(f["episode_0"], "observations", f["episode_0"]["observations"][:-1]),
            r"episode_0 has (\d+) observations for \1 actions: it must have",
        ),
        (
            lambda f: put(f["episode_0"], "truncations", f["episode_0"]["truncations"][1:]),
            r"truncations for \d+ actions",
        ),
        (
            lambda f: put(f["episode_1"], "observations", f["episode_1"]["observations"][:, 1:]),
            "episode_1 has 10 observed and 3 action columns, those before it 11 and 3",
        ),
        (
            lambda f: f["episode_0"]["observations"].__setitem__((7, 2), np.inf),
            r"ons\[7, 2\] is inf",
        ),
        (
            lambda f: f["episode_0"]["actions"].__setitem__((7, 2), np.nan),
            r"actions\[7, 2\] is nan",
        ),
        (lambda f: f["episode_0"]["terminations"].__setitem__(7, True), "episode_0 ends at step 7"),
        (lambda f: f["episode_1"]["truncations"].__setitem__(0, True), "episode_1 ends at step 0"),
    ],
)
def test_malformed_episodes(spoil, words, root: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(root, tmp_path / "copy")) / "mujoco/hopper/simple-v0/data"
    with h5py.File(data / "main_data.hdf5", "a") as file:
        spoil(file)
    with pytest.raises(dynamics.MalformedDataError, match=words):
        dynamics.load("hopper", "simple", root=tmp_path / "copy")
    with pytest.raises(dynamics.MalformedDataError, match=words):
        list(dynamics.stream("hopper", "simple", batch=5, root=tmp_path / "copy"))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("main_data.hdf5", "no HDF5", "is no HDF5 file that can be read"),
        ("metadata.json", "{", "Minari cannot read .*; remove .* and run `python -m solvers.tasks"),
        ("metadata.json", "{}", "Minari cannot read"),
    ],
)
def test_malformed_files(name, text, words, root: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(root, tmp_path / "copy")) / "mujoco/hopper/simple-v0/data"
    (data / name).write_text(text)
    with pytest.raises(dynamics.MalformedDataError, match=words):
        dynamics.load("hopper", "simple", root=tmp_path / "copy")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("minari_version", "0.0.1", "does not support the dataset generated by Minari 0.0.1"),
        ("data_format", "arrow", "stored as arrow: only 'hdf5' is read"),
    ],
)
def test_other_formats(key, value, words, root: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(root, tmp_path / "copy")) / "mujoco/hopper/simple-v0/data"
    metadata = json.loads((data / "metadata.json").read_text())
    (data / "metadata.json").write_text(json.dumps(metadata | {key: value}))
    with pytest.raises(dynamics.MalformedDataError, match=words):
        dynamics.load("hopper", "simple", root=tmp_path / "copy")


# Streaming


@pytest.mark.parametrize("batch", [3, 100, 699, 700, 10_000])
def test_streaming_is_loading(batch: int, root: Path, hopper: Transitions) -> None:
    """Batches of the size that was asked for, whatever the lengths of the episodes."""
    found = list(dynamics.stream("hopper", "simple", batch=batch, root=root))
    assert same(join(found), hopper)
    assert {len(part) for part in found[:-1]} <= {batch}
    assert 0 < len(found[-1]) <= batch


def test_streaming_reads_no_more_than_it_must() -> None:
    taken: list[int] = []

    def parts():
        for part in range(5):
            taken.append(part)
            yield made_up([4])

    stream = batches(parts(), 6)
    assert len(next(stream)) == 6
    assert taken == [0, 1]
    assert [len(part) for part in stream] == [6, 6, 2]


def test_a_batch_must_hold_something(root: Path) -> None:
    with pytest.raises(InputError, match="batch is 0: pass at least 1"):
        dynamics.stream("hopper", "simple", batch=0, root=root)


@pytest.mark.parametrize("batch", [41, 64, 10_000])
def test_moments(batch: int, root: Path, hopper: Transitions) -> None:
    found = dynamics.moments(dynamics.stream("hopper", "simple", batch=batch, root=root))
    assert found.count == len(hopper)
    change = hopper.next_observation - hopper.observation
    for scale, table in (
        (found.observation, hopper.observation),
        (found.action, hopper.action),
        (found.change, change),
    ):
        torch.testing.assert_close(scale.mean, table.mean(0), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(scale.std, table.std(0, correction=0), rtol=1e-12, atol=1e-12)


def test_moments_far_from_zero() -> None:
    """The difference of two large sums would lose all digits."""
    part = made_up([40])
    x = part.observation.double() + 1e9
    far = replace(part, observation=x, next_observation=x)
    found = dynamics.moments([far.rows(slice(0, 1)), far.rows(slice(1, None))])
    want = part.observation.double().std(0, correction=0)
    torch.testing.assert_close(found.observation.std, want, rtol=1e-12, atol=0)
    assert not found.change.std.any()


@pytest.mark.parametrize("exponent", [-1000, -500, 0, 500, 1000])
@pytest.mark.parametrize("batch", [1, 7, 60])
def test_moments_scale_with_the_units(exponent: int, batch: int) -> None:
    """To the bit, in units of 2^±1000, about 1e±301, a column each in units of its own."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 60, 2, generator=generator, dtype=torch.float64)
    plain = replace(made_up([60]), observation=x, next_observation=y, action=x[:, :1])
    units = torch.tensor([2.0**exponent, 1.0], dtype=torch.float64)
    scaled = replace(plain, observation=x * units, next_observation=y * units)

    def found(part: Transitions) -> dynamics.Moments:
        return dynamics.moments(batches([part], batch))

    want, got = found(plain), found(scaled)
    for name in ("observation", "change"):
        for moment in ("mean", "std"):
            theirs = getattr(getattr(want, name), moment) * units
            assert torch.equal(getattr(getattr(got, name), moment), theirs)


def test_moments_of_columns_whose_units_change_on_the_way() -> None:
    values = [0.0, 1e-300, 0.0, -1e-310, 3e-300, 0.0, 1e300, -1e300, 0.0, 1.0]
    x = torch.tensor(values, dtype=torch.float64)[:, None]
    part = replace(made_up([10]), observation=x, next_observation=x, action=x)
    found = dynamics.moments(batches([part], 1)).observation
    torch.testing.assert_close(found.mean.item(), 0.0, atol=1e285, rtol=0)
    torch.testing.assert_close(found.std.item(), 1e300 * 0.2**0.5, rtol=1e-12, atol=0)
    small = dynamics.moments(batches([part.rows(slice(0, 6))], 1)).observation
    want = (x[:6] * 2.0**900).std(0, correction=0).item() * 2.0**-900
    assert small.std.item() == pytest.approx(want, rel=1e-12, abs=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_moments_of_what_is_no_number(value: float) -> None:
    part = made_up([3])
    part.action[1, 0] = value  # a view of the first column of the observations
    with pytest.raises(NonFiniteError, match=r"observation\[1, 0\] is"):
        dynamics.moments([part])
    huge = torch.full((3, 2), 1.5e308, dtype=torch.float64)
    apart = replace(made_up([3]), observation=-huge, next_observation=huge)
    with pytest.raises(NonFiniteError, match=r"change\[0, 0\] is inf"):
        dynamics.moments([apart])


def test_moments_of_nothing() -> None:
    with pytest.raises(InputError, match="parts hold no step"):
        dynamics.moments([])
    with pytest.raises(InputError, match="parts hold no step"):
        dynamics.moments([made_up([3]).rows(slice(0, 0))])


# Splits

SETTINGS = [("episode", None), ("transition", None), ("episode", 90), ("transition", 90)]


@pytest.mark.parametrize(("by", "rows"), SETTINGS)
def test_every_step_is_in_one_part(by, rows) -> None:
    whole = made_up([30, 20, 50, 40, 10, 60, 25, 35])
    found = dynamics.split(whole, seed=0, by=by, rows=rows)
    parts = list(vars(found).values())
    numbers = torch.cat([part.observation[:, 0] / 2 for part in parts]).long()
    assert len(numbers.unique()) == len(numbers) == (rows or len(whole))
    for part in parts:
        index = (part.observation[:, 0] / 2).long()
        assert same(part, whole.rows(index))
        assert (index.diff() > 0).all()
    owners = [set(part.episode.tolist()) for part in parts]
    shared = owners[0] & owners[1] | owners[0] & owners[2] | owners[1] & owners[2]
    assert bool(shared) == (by == "transition")


@pytest.mark.parametrize(("by", "rows"), SETTINGS)
def test_the_seed_decides(by, rows) -> None:
    whole = made_up([30, 20, 50, 40, 10, 60, 25, 35])
    one, same_seed, other = (dynamics.split(whole, seed=s, by=by, rows=rows) for s in (1, 1, 2))
    assert same(one.test, same_seed.test)
    assert same(one.train, same_seed.train)
    assert not same(one.test, other.test)


@pytest.mark.parametrize("seed", [2**32 - 1, 2**64 - 1])
def test_seeds_are_as_large_as_generators_take(seed: int) -> None:
    """Those that a SeedSequence draws have 32 or 64 bits."""
    assert len(dynamics.split(made_up([30, 20, 50]), seed=seed).train) > 0
    with pytest.raises(InputError, match=r"seed is \d+ \(int\): pass at most 18446744073709551615"):
        dynamics.split(made_up([30, 20, 50]), seed=2**64)


@pytest.mark.parametrize("fractions", [(0.5, 0.2, 0.3), (0.8, 0.1, 0.1), (0.1, 0.1, 0.8)])
def test_the_shares_are_met(fractions) -> None:
    """Exactly by steps, within half the longest episode at each border by episodes."""
    lengths = np.random.default_rng(0).integers(5, 100, 60).tolist()
    whole = made_up(lengths)
    steps = dynamics.split(whole, seed=0, fractions=fractions, by="transition")
    episodes = dynamics.split(whole, seed=0, fractions=fractions)
    for found, slack in ((steps, 0.5), (episodes, max(lengths) / 2)):
        sizes = [len(part) for part in vars(found).values()]
        for size, wanted in zip(np.cumsum(sizes), np.cumsum(fractions) * len(whole), strict=True):
            assert abs(size - wanted) <= slack + 1e-6


def test_equal_episodes_meet_the_shares_exactly() -> None:
    found = dynamics.split(made_up([100] * 10), seed=0)
    assert [len(part) for part in vars(found).values()] == [500, 200, 300]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("lengths", [[5, 5, 5], [1000, 1, 1], [1, 1000, 1, 1], [1, 1, 1, 1000]])
def test_no_part_is_empty(lengths: list[int], seed: int) -> None:
    for fractions in ((0.5, 0.2, 0.3), (0.01, 0.01, 0.98), (0.98, 0.01, 0.01)):
        found = dynamics.split(made_up(lengths), seed=seed, fractions=fractions)
        assert all(len(part) for part in vars(found).values())


def test_every_episode_gets_its_turn() -> None:
    """Over seeds, each is in the test part about as often as its share says."""
    whole = made_up([10] * 10)
    times = torch.zeros(10)
    for seed in range(200):
        times[dynamics.split(whole, seed=seed).test.episode.unique()] += 1
    assert times.min() > 30
    assert times.max() < 90


def test_episodes_that_the_subset_leaves_out() -> None:
    whole = made_up([1] * 100)
    found = dynamics.split(whole, seed=0, rows=10)
    assert sum(len(part) for part in vars(found).values()) == 10


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": -1}, "seed is -1: pass at least 0"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"by": "step"}, "by is 'step' .*'episode', 'transition'"),
        ({"fractions": (0.5, 0.5, 0.5)}, r"fractions is \(0.5, 0.5, 0.5\): pass three positive"),
        ({"fractions": (0.5, 0.5, 0.0)}, "pass three positive shares with sum 1"),
        ({"fractions": (0.5, 0.5, float("nan"))}, "pass three positive shares with sum 1"),
        ({"rows": 0}, "rows is 0: pass at least 1"),
        ({"rows": 31}, "rows is 31, of 30 steps: pass at most 30"),
        ({"rows": 2}, r"2 episode\(s\) cannot fill"),
    ],
)
def test_bad_splits_are_refused(changes, words, monkeypatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(InputError, match=words):
        dynamics.split(made_up([1] * 30), **({"seed": 0} | changes))


def test_too_few_episodes() -> None:
    whole = made_up([50, 50])
    with pytest.raises(InputError, match=r"2 episode.* pass 3 or more, or by='transition'"):
        dynamics.split(whole, seed=0)
    assert len(dynamics.split(whole, seed=0, by="transition").train) == 50
