"""Results on disk: content-addressed tables, pictures and texts, each written whole or not at all.

A table is named after what produced it, ``out/results/<name>-<key>.parquet``. The key covers
experiment, settings, seed, code, data and installed versions, so a table is recomputed exactly when
one of these changed. The name is for readers: a table is found by its key, whoever computed it.
Parquet is the exact copy; the CSV beside it opens with lines of provenance:
``pd.read_csv(path, comment="#")``.

A table that takes long is computed in cells (see `Cells`), kept in ``out/results/.cells`` until it
is complete: what was killed goes on from there.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import shutil
import subprocess
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

# pandas and pyarrow are imported where a table is touched: an unchanged run touches none.
if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

ROOT = Path(__file__).resolve().parents[1]
CODE = ("analysis", "solvers", "paper_checks/experiments", "paper_checks/statistics.py")
SIMULATORS = ("gymnasium", "minari", "mujoco")  # of an extra, and what they collect is in tables
NUMERICS = ("mpmath", "numpy", "pandas", "scikit-learn", "scipy", "sympy", "torch", *SIMULATORS)
_SCHEMA_KEY = b"bimle.provenance"

Provenance = dict[str, Any]


class StoreError(OSError):
    """A folder or file of the store cannot be used; the message says which and what to do."""


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Yield a temporary name beside `path`; it takes the place of `path` if the block succeeds.

    Raises:
        StoreError: the system refuses.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(
            f"cannot write {path}: {reason}; make room for it, or pass another folder with --out"
        ) from error


def write_text(path: Path, text: str) -> Path:
    """Write `text` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def read_record(path: Path, kinds: Mapping[str, type]) -> dict[str, Any] | None:
    """Return the JSON object in a file of this project, or None if there is no such file.

    Args:
        path: of the file.
        kinds: the keys that the object has at least, and the type of the value of each.

    Raises:
        StoreError: the file cannot be read, or holds something else: it is damaged or foreign.
    """
    remedy = "it is damaged, or not of this project; move or delete it and run again"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}): {remedy}") from error
    if not isinstance(record, dict) or not all(
        isinstance(record.get(key), kind) for key, kind in kinds.items()
    ):
        raise StoreError(f"{path} does not hold {', '.join(kinds)}: {remedy}")
    return record


def versions(distributions: Iterable[str] = NUMERICS) -> dict[str, str | None]:
    """Return the *installed* version of Python and of each distribution, None where it is not."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for distribution in distributions:
        try:
            found[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            found[distribution] = None
    return found


def digest_files(root: Path, names: Iterable[str]) -> str:
    """Return the SHA-256 of paths and contents of all files in `names` (files or folders).

    Paths are relative to `root`; compiled files are left out; what does not exist counts as empty.
    """
    total = hashlib.sha256()
    for name in names:
        start = root / name
        for path in [start] if start.is_file() else sorted(start.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                total.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def canonical(settings: Any) -> str:
    """Return a frozen dataclass as JSON with sorted keys: equal settings give equal text."""

    def plain(value: object) -> str:
        if isinstance(value, Path):
            return value.as_posix()
        raise TypeError(
            f"settings hold {value!r}, a {type(value).__name__}; use numbers, texts, tuples, paths"
        )

    return json.dumps(asdict(settings), sort_keys=True, default=plain)


def fingerprint(parts: Mapping[str, Any], inputs: Iterable[Path] = ()) -> str:
    """Return the SHA-256 of `parts`, anything JSON can hold, and of the data files `inputs`."""
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in inputs]
    return hashlib.sha256(
        json.dumps({"inputs": contents, **parts}, sort_keys=True).encode()
    ).hexdigest()


def provenance(root: Path = ROOT) -> Provenance:
    """Return where results come from: commit and dirty flag of the checkout `root`, versions."""
    top = _git(root, "rev-parse", "--show-toplevel")
    # Sources unpacked inside some other repository must not claim that repository's commit.
    own = top is not None and Path(top).resolve() == root.resolve()
    commit = _git(root, "rev-parse", "--verify", "HEAD") if own else None
    status = _git(root, "status", "--porcelain") if own else None
    return {
        "commit": commit or "unknown",
        "dirty": "unknown" if status is None else bool(status),
        "versions": versions(),
    }


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:  # git is not installed
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def read(path: Path) -> tuple[DataFrame, Provenance]:
    """Return a stored table and its provenance.

    Raises:
        StoreError: `path` is not a complete Parquet file written by a `Store`, or cannot be read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with path.open("rb") as file:  # of a folder, pyarrow would read all that is in it
            table = parquet.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"{path} is not a readable Parquet file ({error}); delete it and run again"
        ) from error
    stored = (table.schema.metadata or {}).get(_SCHEMA_KEY)
    if stored is None:
        raise StoreError(
            f"{path} carries no provenance, so this store did not write it; move it elsewhere"
        )
    try:
        record = json.loads(stored)
        return table.to_pandas(), {"key": record["key"], **record}
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{path} carries a damaged provenance ({error!r}); delete it and run again"
        ) from error


@dataclass(frozen=True)
class Cells:
    """Parts of a table that is being computed; each is written whole or not at all.

    Attributes:
        folder: of this table: its name stands for code, data, versions, and the table's settings.
        run: settings and seed of the run that they are parts of (a table may have several runs).
    """

    folder: Path
    run: str

    def get(self, cell: str) -> DataFrame | None:
        """Return the table of a cell, or None if it is not there.

        Raises:
            StoreError: the file is damaged, or cannot be read.
        """
        path = self._path(cell)
        return read(path)[0] if path.exists() else None

    def put(self, cell: str, result: DataFrame) -> None:
        """Keep the table of a cell.

        Raises:
            StoreError: the system refuses.
        """
        _write_parquet(self._path(cell), result, {"key": self._key(cell), "cell": cell})

    def _key(self, cell: str) -> str:
        return fingerprint({"run": self.run, "cell": cell})

    def _path(self, cell: str) -> Path:
        return self.folder / f"{self._key(cell)[:32]}.parquet"


# Where the cells of the table belong that is being computed, if it is for a store.
_UNFINISHED: ContextVar[Path | None] = ContextVar("unfinished", default=None)


def cells(settings: Any, seed: int) -> Cells | None:
    """Return the cells of a run, if a store computes a table now; else nothing is kept."""
    folder = _UNFINISHED.get()
    if folder is None:
        return None
    return Cells(folder, json.dumps([_kind(settings), canonical(settings), seed]))


def _kind(settings: Any) -> str:
    """Return the class of settings, which tells experiments apart."""
    return f"{type(settings).__module__}.{type(settings).__qualname__}"


@dataclass(frozen=True)
class Store:
    """The output folder `root`; `code` is the checkout whose sources enter the keys."""

    root: Path
    code: Path = ROOT

    @classmethod
    def open(cls, out: Path | str) -> Store:
        """Return the store at `out` after checking that it can be written.

        Raises:
            StoreError: `out` is a file, or no file can be created in it.
        """
        root = Path(out)
        probe = root / f".probe.{uuid.uuid4().hex}.tmp"
        try:
            # Really writing is the only test that holds for every user and file system.
            root.mkdir(parents=True, exist_ok=True)
            probe.touch(exist_ok=False)
            probe.unlink()
        except OSError as error:
            reason = error.strerror or error
            raise StoreError(
                f"cannot write to {root}: {reason}; pass a writable folder with --out"
            ) from error
        return cls(root)

    @property
    def results(self) -> Path:
        """Tables: Parquet and CSV."""
        return self.root / "results"

    @property
    def figures(self) -> Path:
        """Pictures and their captions."""
        return self.root / "figures"

    @property
    def tables(self) -> Path:
        """Tables set for reading."""
        return self.root / "tables"

    def key(self, settings: Any, *, seed: int | Sequence[int], inputs: Iterable[Path] = ()) -> str:
        """Return the SHA-256 of all that determines a table.

        Args:
            settings: of the experiment; each has a class of its own, which tells it apart.
            seed: of the run, or those of several runs in one table.
            inputs: data files that it reads.
        """
        parts = {
            "experiment": _kind(settings),
            "settings": canonical(settings),
            "seed": seed,
            "code": digest_files(self.code, CODE),
            "versions": versions(),
        }
        return fingerprint(parts, inputs)

    def load_or_run(
        self,
        name: str,
        settings: Any,
        run: Callable[[], DataFrame],
        *,
        seed: int | Sequence[int],
        provenance: Mapping[str, Any],
        inputs: Iterable[Path] = (),
    ) -> DataFrame:
        """Return the stored table of these settings, else ``run()`` and store it as `name`.

        Raises:
            StoreError: a file of the same name is damaged, or not of this store; or the system
                refuses to read or write.
        """
        key = self.key(settings, seed=seed, inputs=inputs)
        for path in sorted(self.results.glob(f"*-{key[:12]}.parquet")):
            table, stored = read(path)
            if stored["key"] == key:
                return table
        path = self.results / f"{name}-{key[:12]}.parquet"
        _check_csv(path.with_suffix(".csv"))
        folder = self.results / ".cells" / key[:32]
        token = _UNFINISHED.set(folder)
        try:
            table = run()
        finally:
            _UNFINISHED.reset(token)
        record = {
            **provenance,
            "name": name,
            "key": key,
            "seed": seed,
            "settings": json.loads(canonical(settings)),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # Parquet last: its presence says that the table is complete in both forms.
        _write_csv(path.with_suffix(".csv"), table, record)
        _write_parquet(path, table, record)
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # others may have cells there
            folder.parent.rmdir()
        return table

    def save_figure(
        self,
        figure: Figure,
        name: str,
        formats: Sequence[str] = ("pdf", "png"),
        provenance: Mapping[str, Any] | None = None,
    ) -> list[Path]:
        """Save a picture in each format, with its provenance in the file's own metadata."""
        record = json.dumps(provenance or {}, sort_keys=True)
        metadata_of = {
            # Without a creation date the same picture gives the same bytes.
            "pdf": {"Title": name, "Keywords": record, "CreationDate": None},
            "png": {"Title": name, "Description": record},
        }
        paths = [self.figures / f"{name}.{extension}" for extension in formats]
        for path, extension in zip(paths, formats, strict=True):
            with replacing(path) as temporary:
                figure.savefig(temporary, format=extension, metadata=metadata_of[extension])
        return paths

    def save_text(self, folder: Path, name: str, text: str) -> Path:
        """Save `text` as ``folder/name``."""
        return write_text(folder / name, text)


def _write_parquet(path: Path, table: DataFrame, record: Mapping[str, Any]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    arrow = pa.Table.from_pandas(table)
    schema = {**(arrow.schema.metadata or {}), _SCHEMA_KEY: json.dumps(record).encode()}
    with replacing(path) as temporary:
        parquet.write_table(arrow.replace_schema_metadata(schema), temporary)


def _check_csv(path: Path) -> None:
    """Raise `StoreError` if there is a file at `path` that `_write_csv` did not write."""
    try:
        head = path.read_bytes() if path.exists() else b"# key: "
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}; move it") from error
    lines = takewhile(lambda line: line.startswith(b"# "), head.splitlines())
    if not any(line.startswith(b"# key: ") for line in lines):
        raise StoreError(f"{path} was not written by this store; move it elsewhere")


def _write_csv(path: Path, table: DataFrame, record: Mapping[str, Any]) -> None:
    head = "".join(
        f"# {name}: {json.dumps(value, sort_keys=True)}\n" for name, value in record.items()
    )
    body = table.to_csv(index=False)
    if "#" in body:  # quoted, so that it does not read as a comment
        body = table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)
    write_text(path, head + body)
