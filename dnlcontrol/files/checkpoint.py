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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.files.archive import Archive, BrokenArchive, Member
from dnlcontrol.files.atomic import make_directory, write_atomic
from dnlcontrol.files.fields import (
    Field,
    anything,
    as_it_is,
    fitted,
    mapping,
    number,
    record,
    whole,
    word,
)
from dnlcontrol.files.json_text import parsed
from dnlcontrol.files.locks import held

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FORMAT = 1
NAME = "checkpoint.npz"
TEXT = "record"
FRAME = {
    "kind": word(("checkpoint",)),
    "counts": as_it_is,
    "seconds": number(0.0),
    "stages": mapping(mapping(as_it_is)),
}


def _equal(theirs: Mapping[str, object], mine: Mapping[str, object]) -> bool:
    return theirs == mine


@dataclass(frozen=True)
class Use:
    """How a checkpoint is read and written.

    Attributes
    ----------
    same : compares what the file is about with what it must agree in; it raises where going on is
        refused, and False begins anew.
    anew : begin anew, whatever the file is.
    writes : False for a rank of a distributed solve that leaves the file to another.
    tables : what "about" and "stages" of a file may be, before its arrays are read.
    """

    same: Callable[[Mapping[str, object], Mapping[str, object]], bool] = _equal
    anew: bool = False
    writes: bool = True
    tables: Mapping[str, Field] = field(default_factory=dict)


class Checkpoint:
    """The states of nested stages of one solve, outer first: rounds around Newton's method, say.

    Parameters
    ----------
    directory : where ``checkpoint.npz`` is kept; made if need be.
    every : seconds between two writes at least; 0 writes at each iteration.
    about : what the file must agree in: the fingerprint of the problem, depth, method.
    use : how the file is read and written.

    Raises
    ------
    InputError where ``every`` is negative or the directory cannot be made.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        every: float,
        about: Mapping[str, object],
        use: Use | None = None,
    ) -> None:
        self.every = checks.non_negative("every", every)
        self.path = make_directory(directory) / NAME
        self.about = dict(about)
        self.use = use or Use()
        self.resumed = False  # whether a stage went on from the file
        self.since = 0  # iterations that the minimiser had made when the file was written
        self.earlier = 0.0  # seconds spent by the processes before this one
        self._began = self._written = time.monotonic()
        self._counts: DataclassInstance | None = None
        self._found: dict[str, dict[str, Any]] = {}
        self._stages: dict[str, Mapping[str, object]] = {}
        self._stale = False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other run writes in the directory meanwhile.

        Raises InputError where one does.
        """
        with held(self.path.parent, "checkpoint") if self.use.writes else nullcontext():
            yield

    # -- going on ----------------------------------------------------------------------------------
    def open(self, counts: DataclassInstance | None = None) -> Checkpoint:
        """Read the file if there is one; ``counts`` goes on from what it held.

        Raises InputError where the file is of another format, or ``same`` refuses it; a broken one
        is a warning.
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
        """The file's record; None for no file, another solve's or, with a warning, a broken one."""
        if self.use.anew or not self.path.is_file():
            return None
        try:
            with open(self.path, "rb") as file:
                archive = Archive(file)
                record = parsed(archive.text(TEXT), constants=True)
                found = self._checked(record, archive.members)
                if found is None:
                    return None
                stages = _replaced(found["stages"], lambda member: archive.array(member.name))
        except (BrokenArchive, OSError, MemoryError, ValueError) as error:
            if isinstance(error, checks.InputError):
                raise
            warnings.warn(
                f"{self.path} is truncated or no checkpoint ({type(error).__name__}: {error}); the "
                "solve starts from the beginning and replaces it",
                UserWarning,
                stacklevel=5,
            )
            return None
        return {**found, "stages": stages}

    def _checked(self, value: object, members: Mapping[str, Member]) -> dict[str, Any] | None:
        """The record of a file with what its arrays are; all that it says is allowed.

        None for another solve's. Raises InputError where it is of another format, is not as it was
        written, or may not be begun anew.
        """
        known = value.get("format") if isinstance(value, dict) else None
        if known not in (None, FORMAT):
            allowed = f"format {FORMAT}, or a new directory"
            checks.reject("checkpoint", f"{self.path} of format {known!r}", allowed)
        table = {**FRAME, "about": self.use.tables.get("about", mapping(anything))}
        found = fitted(self.path, record(table), value)
        counts = record({}, _count_fields(self._counts), others=None)
        found["counts"] = fitted(self.path, counts, found["counts"])
        about = found["about"]
        if not self.use.same(about, self.about):
            return None
        stages = _with_members(found["stages"], members)
        found["stages"] = fitted(self.path, self.use.tables.get("stages", as_it_is), stages)
        return found


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


def _with_members(value: object, members: Mapping[str, Member]) -> object:
    """The same with what is known of the arrays in the places of their names."""
    if isinstance(value, dict):
        if value.keys() == {"array"}:
            return members.get(str(value["array"]))
        return {k: _with_members(v, members) for k, v in value.items()}
    return [_with_members(v, members) for v in value] if isinstance(value, list) else value


def _replaced(value: object, array: Callable[[Member], np.ndarray]) -> Any:
    """The same with the arrays themselves, which are finite."""
    if isinstance(value, Member):
        found = array(value)
        if not np.all(np.isfinite(found)):
            raise BrokenArchive(f"with numbers in {value.name!r} that are not finite")
        return found
    if isinstance(value, dict):
        return {k: _replaced(v, array) for k, v in value.items()}
    return [_replaced(v, array) for v in value] if isinstance(value, (list, tuple)) else value


def _count_fields(counts: DataclassInstance | None) -> dict[str, Field]:
    """The fields of counts: integers, and seconds."""
    if counts is None:
        return {}
    names = [f.name for f in fields(counts)]
    whole_ones = {k: whole() for k in names if isinstance(getattr(counts, k), int)}
    return {**dict.fromkeys(names, number(0.0)), **whole_ones}
