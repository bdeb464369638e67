"""The state of a minimiser in one file, from which a killed solve goes on.

``checkpoint.npz`` holds plain arrays and one JSON text; it is replaced as a whole, so that a kill
at any moment leaves the last complete state. Written at most every so many seconds, removed when
the solve has converged.
"""

from __future__ import annotations

import io
import json
import os
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.files.atomic import make_directory, write_atomic
from dnlcontrol.files.locks import held

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FORMAT = 1
NAME = "checkpoint.npz"
TEXT = "record"
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError)


class Checkpoint:
    """The states of nested stages of one solve, outer first: rounds around Newton's method, say.

    Parameters
    ----------
    directory : where ``checkpoint.npz`` is kept; made if need be.
    every : seconds between two writes at least; 0 writes at each iteration.
    about : what the file must agree in: the fingerprint of the problem, depth, method. The
        comparison is ``same``.
    writes : False for a rank of a distributed solve that leaves the file to another.

    Raises
    ------
    InputError where ``every`` is negative or the directory cannot be made.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        every: float,
        about: Mapping[str, object],
        same: Callable[[Mapping[str, object], Mapping[str, object]], bool] = lambda theirs, mine: (
            theirs == mine
        ),
        writes: bool = True,
    ) -> None:
        self.every = checks.non_negative("every", every)
        self.path = make_directory(directory) / NAME
        self.about, self.same = dict(about), same
        self.resumed = False  # whether a stage went on from the file
        self.since = 0  # iterations that the minimiser had made when the file was written
        self.earlier = 0.0  # seconds spent by the processes before this one
        self._began = self._written = time.monotonic()
        self._counts: DataclassInstance | None = None
        self._found: dict[str, dict[str, Any]] = {}
        self._stages: dict[str, Mapping[str, object]] = {}
        self._stale = False
        self._writes = writes

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other run writes in the directory meanwhile.

        Raises InputError where one does.
        """
        with held(self.path.parent, "checkpoint") if self._writes else nullcontext():
            yield

    # -- going on ----------------------------------------------------------------------------------
    def open(self, counts: DataclassInstance | None = None) -> Checkpoint:
        """Read the file if there is one; ``counts`` goes on from what it held.

        Raises InputError where the file is of another problem or format; a broken one is a warning.
        """
        self._counts = counts
        record = self._read()
        if record is None:
            return self
        self._found, self.earlier = record["stages"], float(record["seconds"])
        for name, value in record["counts"].items():
            setattr(counts, name, value + getattr(counts, name))
        return self

    def found(self, stage: str) -> dict[str, Any]:
        """The state of a stage that the file held, once; else nothing."""
        state = self._found.pop(stage, {})
        if state:
            self._stages[stage], self.resumed = state, True
            self.since += len(state.get("log", ()))
        return state

    # -- keeping -----------------------------------------------------------------------------------
    def offer(self, stage: str, state: Mapping[str, object]) -> None:
        """The present state of a stage, arrays and JSON types; stages inside it begin anew."""
        names = list(self._stages)
        for inner in names[names.index(stage) + 1 :] if stage in names else ():
            del self._stages[inner]
        self._stages[stage], self._stale = dict(state), True
        if time.monotonic() - self._written >= self.every:
            self._write()

    def close(self, solved: bool) -> None:
        """Remove the file of a solved problem; else keep the last state, for a longer run."""
        if solved:
            self.path.unlink(missing_ok=True)
        elif self._stale:
            self._write()

    # -- the file ----------------------------------------------------------------------------------
    def _write(self) -> None:
        arrays: dict[str, np.ndarray] = {}
        counts = (
            {}
            if self._counts is None
            else {f.name: getattr(self._counts, f.name) for f in fields(self._counts)}
        )
        record = {
            "format": FORMAT,
            "kind": "checkpoint",
            "about": self.about,
            "counts": counts,
            "seconds": self.earlier + time.monotonic() - self._began,
            "stages": {k: _without_arrays(v, arrays) for k, v in self._stages.items()},
        }
        arrays[TEXT] = np.array(json.dumps(record))
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        write_atomic(self.path, buffer.getvalue())
        self._written, self._stale = time.monotonic(), False

    def _read(self) -> dict[str, Any] | None:
        """The file's record; None where there is no file, or, with a warning, a broken one."""
        if not self.path.is_file():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                arrays = {k: stored[k] for k in stored.files}
            record = json.loads(str(arrays.pop(TEXT)))
            known = record["kind"] == "checkpoint" and record["format"]
            about = record["about"]
        except (*BROKEN, TypeError, AttributeError) as error:
            warnings.warn(
                f"{self.path} is truncated or no checkpoint ({type(error).__name__}); the solve "
                "starts from the beginning and replaces it",
                UserWarning,
                stacklevel=5,
            )
            return None
        if known != FORMAT:
            checks.reject(
                "checkpoint",
                f"{self.path} of format {known!r}",
                f"format {FORMAT}, or a new directory",
            )
        if not self.same(about, self.about):
            told = ", ".join(
                f"{k} {about.get(k)!r}" for k in ("name", "depth", "method") if k in about
            )
            checks.reject(
                "checkpoint",
                f"{Path(self.path).parent} with the checkpoint of another solve ({told})",
                "a new directory, or that of the same problem, depth, rule and method",
            )
        record["stages"] = {k: _with_arrays(v, arrays) for k, v in record["stages"].items()}
        return dict(record)


def resumed(checkpoint: Checkpoint | None, stage: str) -> dict[str, Any]:
    """What a stage goes on from; nothing without a checkpoint."""
    return {} if checkpoint is None else checkpoint.found(stage)


def _without_arrays(value: object, arrays: dict[str, np.ndarray]) -> object:
    """JSON types, arrays moved to ``arrays`` and their names left in their places."""
    if isinstance(value, np.ndarray):
        arrays[f"a{len(arrays)}"] = value
        return {"array": f"a{len(arrays) - 1}"}
    if isinstance(value, Mapping):
        return {str(k): _without_arrays(v, arrays) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(v, arrays) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def _with_arrays(value: object, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"array"}:
            return arrays[value["array"]]
        return {k: _with_arrays(v, arrays) for k, v in value.items()}
    return [_with_arrays(v, arrays) for v in value] if isinstance(value, list) else value
