"""Damage to saved runs, drawn at random, with checksums that fit: records, arrays, archives, files.

A kind is a function of a run directory and of a source of choices; it leaves the directory damaged
and returns what it did in words.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import pickle
import random
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Kind = Callable[[Path, random.Random], str]
RECORD, ARRAYS = "solution.json", "arrays.npz"
HOSTILE: list[Any] = [
    *(None, True, False, 0, 1, 2, 3, -1, 77, 0.5, 1e-30, 1e300, -1e300, 10**30, 10**400),
    *("", "x", "1.0", "nan", "evil", "exact", "adjoint", "left", "trapezoid", "ts", "float16"),
    *("\ud800", "a\nb", "x" * 10**5, [], [1], [None], {}, {"a": 1}, [[[[1]]]], [1] * 10**4),
    *(float("nan"), float("inf"), -float("inf")),
]
BOMB = 40 << 20  # bytes, a thousand times as many as the archive has


# -- records -------------------------------------------------------------------------------------
def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to everything inside a JSON value."""
    if isinstance(value, dict):
        inside: Any = value.items()
    else:
        inside = enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield (*at, key)
        yield from places(item, (*at, key))


def altered(value: Any, rng: random.Random) -> Any:
    """A value that looks like this one, or a hostile one."""
    choices = [rng.choice(HOSTILE)]
    if isinstance(value, bool):
        choices += [not value, int(value)]
    elif isinstance(value, (int, float)):
        choices += [value + 1, -value, value * 1.001, value * 1e6, value * 0, str(value), [value]]
    elif isinstance(value, list) and value:
        choices += [value[::-1], value[:-1], [*value, value[0]], [*value, "x"], dict.fromkeys("ab")]
    elif isinstance(value, dict) and value:
        choices += [list(value), {**value, "more": 1}, {k + "_": v for k, v in value.items()}]
    elif isinstance(value, str):
        choices += [value + "x", value[:-1], value.upper(), [value]]
    return rng.choice(choices)


def changed(record: Any, rng: random.Random) -> tuple[Any, str]:
    """A record with one value altered or left out, wherever it is."""
    out = copy.deepcopy(record)
    # first a field, then a place in it: so that long logs do not take all damage
    first = rng.choice(sorted(out))
    path = rng.choice([p for p in places(out) if p[0] == first][: 10**4])
    parent = out
    for key in path[:-1]:
        parent = parent[key]
    if rng.random() < 0.15:
        del parent[path[-1]]
        return out, f"{path} left out"
    parent[path[-1]] = altered(parent[path[-1]], rng)
    return out, f"{path} is {str(parent[path[-1]])[:40]!r}"


def record_value(run: Path, rng: random.Random) -> str:
    record, words = changed(json.loads((run / RECORD).read_text()), rng)
    (run / RECORD).write_text(json.dumps(record))
    return words


def record_text(run: Path, rng: random.Random) -> str:
    """The text itself: cut, in another encoding, deep, of many values, of huge numbers."""
    data = (run / RECORD).read_bytes()
    texts = {
        "cut": data[: rng.randrange(len(data))],
        "empty": b"",
        "utf-16": data.decode().encode("utf-16"),
        "null bytes": data.replace(b" ", b"\0"),
        "nested": b"[" * 10**5,
        "nested in a field": data.replace(b'"source": {', b'"source": ' + b'{"a": ' * 900, 1),
        "many values": data.replace(b'"log": [', b'"log": [' + b"[]," * 10**6, 1),
        "digits": data.replace(b'"status": ', b'"status": ' + b"9" * 5000, 1),
        "not a number": data.replace(b'"status": ', b'"status": NaN, "b": ', 1),
        "a list": b"[" + data + b"]",
    }
    name = rng.choice(sorted(texts))
    (run / RECORD).write_bytes(texts[name])
    return f"{RECORD}: {name}"


# -- arrays --------------------------------------------------------------------------------------
def mended(run: Path, data: bytes, rng: random.Random | None = None) -> None:
    """Another archive with its checksum, and its shapes where a coin says so."""
    (run / ARRAYS).write_bytes(data)
    record = json.loads((run / RECORD).read_text())
    record["sha256"] = hashlib.sha256(data).hexdigest()
    if rng is not None and rng.random() < 0.5:
        with np.load(io.BytesIO(data), allow_pickle=True) as stored:
            record["arrays"] = {k: list(stored[k].shape) for k in stored.files}
    (run / RECORD).write_text(json.dumps(record))


def saved(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def with_entry(a: np.ndarray, value: float, rng: random.Random) -> np.ndarray:
    out = np.array(a)
    out.flat[rng.randrange(out.size)] = value
    return out


ARRAY_CHANGES: dict[str, Callable[[np.ndarray, random.Random], Any]] = {
    "of another type": lambda a, r: a.astype(r.choice(["f4", "f2", "i8", "c16", "?", "U8", "S8"])),
    "of objects": lambda a, r: a.astype(object),
    "of big-endian numbers": lambda a, r: a.astype(">f8"),
    "in Fortran order": lambda a, r: np.asfortranarray(a),
    "of records": lambda a, r: np.zeros(a.shape, [("a", "f8"), ("b", "i4")]),
    "flat": lambda a, r: a.ravel(),
    "with one axis more": lambda a, r: a[..., None],
    "of rank 6": lambda a, r: a.reshape(*a.shape, *[1] * (6 - a.ndim)),
    "turned": lambda a, r: a.T,
    "shorter": lambda a, r: a[:-1],
    "longer": lambda a, r: np.concatenate([a, a[-1:]]),
    "empty": lambda a, r: a[:0],
    "one number": lambda a, r: a.ravel()[0],
    "with NaN": lambda a, r: with_entry(a, np.nan, r),
    "with an infinity": lambda a, r: with_entry(a, r.choice([np.inf, -np.inf]), r),
    "with a huge number": lambda a, r: with_entry(a, r.choice([1e300, -1e308]), r),
    "with one entry off": lambda a, r: with_entry(a, 0.123 + a.ravel()[0], r),
    "moved": lambda a, r: a + 10.0 ** r.randint(-12, 3),
    "negated": lambda a, r: -a,
    "backwards": lambda a, r: a[::-1],
    "zero": lambda a, r: np.zeros_like(a),
    "in float32": lambda a, r: a.astype("f4").astype(float),
}


def one_array(run: Path, rng: random.Random) -> str:
    with np.load(run / ARRAYS) as stored:
        arrays = dict(stored)
    name, how = rng.choice(sorted(arrays)), rng.choice(sorted(ARRAY_CHANGES))
    arrays[name] = ARRAY_CHANGES[how](arrays[name], rng)
    mended(run, saved(arrays), rng)
    return f"{name} {how}"


def array_names(run: Path, rng: random.Random) -> str:
    """An array left out, renamed, exchanged with another, or one more."""
    with np.load(run / ARRAYS) as stored:
        arrays = dict(stored)
    a, b = rng.choice(sorted(arrays)), rng.choice(sorted(arrays))
    how = rng.choice(["without", "renamed", "exchanged", "more"])
    if how == "exchanged":
        arrays[a], arrays[b] = arrays[b], arrays[a]
    elif how == "more":
        arrays[rng.choice(["more", "../out", "control:z", "x" * 300])] = np.zeros(3)
    else:
        there = arrays.pop(a)
        if how == "renamed":
            arrays[rng.choice([a + "_", "States", "control:"])] = there
    mended(run, saved(arrays), rng)
    return f"{how}: {a}, {b}"


# -- archives ------------------------------------------------------------------------------------
def rezipped(data: bytes, compress: int = zipfile.ZIP_STORED, **more: bytes) -> bytes:
    """The same members, or others in their places, by another writer."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", compress) as new:
        contents = {name: old.read(name) for name in old.namelist()} | more
        for name, content in contents.items():
            new.writestr(name, content)
    return out.getvalue()


def header(text: str, content: bytes = bytes(64), version: bytes = b"\x01\x00") -> bytes:
    line = text.ljust(117) + "\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(line)) + line.encode() + content


def shape_header(shape: str, kind: str = "<f8") -> bytes:
    return header(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}")


def with_size(data: bytes, size: int) -> bytes:
    """The directory says that its first member has so many bytes."""
    at = data.index(b"PK\x01\x02")
    return data[: at + 20] + struct.pack("<LL", size, size) + data[at + 28 :]


def many(data: bytes) -> bytes:
    """The directory names its members ten thousand times."""
    at, end = data.index(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    entries = data[at:end] * 10_000
    return data[:at] + entries + data[end : end + 12] + struct.pack("<LLH", len(entries), at, 0)


def twice(data: bytes) -> bytes:
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are two
        archive.writestr(archive.infolist()[0].filename.replace("states", "costates"), b"x")
    return out.getvalue()


def flipped(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


ARCHIVES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "compressed": lambda d, r: rezipped(d, zipfile.ZIP_DEFLATED),
    "by another compression": lambda d, r: rezipped(d, r.choice([zipfile.ZIP_BZIP2, 14])),
    "a bomb beside": lambda d, r: rezipped(d, zipfile.ZIP_DEFLATED, **{"x.npy": bytes(BOMB)}),
    "a bomb": lambda d, r: rezipped(d, zipfile.ZIP_DEFLATED, **{"states.npy": bytes(BOMB)}),
    "10^12 numbers": lambda d, r: rezipped(d, **{"states.npy": shape_header("(1000000000000,)")}),
    "below zero": lambda d, r: rezipped(d, **{"states.npy": shape_header("(-1, 2)")}),
    "a huge axis": lambda d, r: rezipped(d, **{"states.npy": shape_header(f"({10**40},)")}),
    "no axis": lambda d, r: rezipped(d, **{"states.npy": shape_header("(0, 0)")}),
    "objects": lambda d, r: rezipped(d, **{"states.npy": shape_header("(8,)", "|O")}),
    "code": lambda d, r: rezipped(d, **{"states.npy": header("__import__('os').abort()")}),
    "deep": lambda d, r: rezipped(d, **{"states.npy": header("(" * 9000)}),
    "version 2": lambda d, r: rezipped(d, **{"states.npy": header("{}", version=b"\x02\x00")}),
    "no array": lambda d, r: rezipped(d, **{"states.npy": b"hello"}),
    "an empty member": lambda d, r: rezipped(d, **{"states.npy": b""}),
    "encrypted": lambda d, r: d.replace(
        b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"
    ),
    "a forged size": lambda d, r: with_size(d, r.choice([0, 1, 10**6, 2**31, 2**32 - 2])),
    "many members": lambda d, r: many(d),
    "two of one name": lambda d, r: twice(d),
    "a comment": lambda d, r: d[:-2] + struct.pack("<H", 5) + b"hello",
    "a bit flipped": flipped,
    "cut": lambda d, r: d[: r.randrange(len(d))],
    "something before": lambda d, r: bytes(1000) + d,
    "something after": lambda d, r: d + bytes(1000),
    "a pickle": lambda d, r: pickle.dumps({"a": 1}),
    "garbage": lambda d, r: b"PK\x03\x04" + r.randbytes(200),
    "nothing": lambda d, r: b"",
    "an empty archive": lambda d, r: b"PK\x05\x06" + bytes(18),
}


def archive(run: Path, rng: random.Random) -> str:
    name = rng.choice(sorted(ARCHIVES))
    mended(run, ARCHIVES[name]((run / ARRAYS).read_bytes(), rng))
    return f"{ARRAYS}: {name}"


# -- files ---------------------------------------------------------------------------------------
def files(run: Path, rng: random.Random) -> str:
    """A file that is missing, another kind of thing, or another file."""
    path = run / rng.choice([RECORD, ARRAYS])
    how = rng.choice(["missing", "a directory", "a loop", "a pipe", "a device", "the other"])
    other = run / (ARRAYS if path.name == RECORD else RECORD)
    data = other.read_bytes()
    path.unlink()
    if how == "a directory":
        path.mkdir()
    elif how == "a loop":
        path.symlink_to(path)
    elif how == "a pipe":
        os.mkfifo(path)
    elif how == "a device":
        path.symlink_to("/dev/zero")
    elif how == "the other":
        path.write_bytes(data)
    return f"{path.name}: {how}"


SOLUTION_KINDS: list[Kind] = [
    *(record_value, record_value, record_text, one_array, one_array, array_names),
    *(archive, archive, files),
]


# -- studies -------------------------------------------------------------------------------------
def level_of(study: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(p.parent for p in study.rglob(RECORD)))


def in_a_level(study: Path, rng: random.Random) -> str:
    level = level_of(study, rng)
    return f"{level.parent.name}: {rng.choice(SOLUTION_KINDS)(level, rng)}"


def study_record(study: Path, rng: random.Random) -> str:
    record, words = changed(json.loads((study / "study.json").read_text()), rng)
    (study / "study.json").write_text(json.dumps(record))
    return f"study.json: {words}"


def levels_moved(study: Path, rng: random.Random) -> str:
    """A level in the place of another, at another depth or of another backend; or none."""
    a, b = level_of(study, rng), level_of(study, rng)
    how = rng.choice(["copied", "gone"])
    if how == "gone":
        shutil.rmtree(a)
    elif a != b:
        shutil.rmtree(b)
        shutil.copytree(a, b)
    return f"{how}: {a.parent.name}/{a.name} to {b.parent.name}/{b.name}"


STUDY_KINDS: list[Kind] = [in_a_level, study_record, levels_moved]


# -- checkpoints ---------------------------------------------------------------------------------
def checkpoint(folder: Path, rng: random.Random) -> str:
    """The state of a minimiser: its record, an array of it, or its archive."""
    path = folder / "checkpoint.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    record = json.loads(str(arrays.pop("record")))
    how = rng.choice(["record", "array", "archive"])
    if how == "archive":
        name = rng.choice(sorted(ARCHIVES))
        path.write_bytes(ARCHIVES[name](path.read_bytes(), rng))
        return f"checkpoint.npz: {name}"
    words = ""
    if how == "record":
        record, words = changed(record, rng)
    elif arrays:
        name, words = rng.choice(sorted(arrays)), rng.choice(sorted(ARRAY_CHANGES))
        arrays[name] = ARRAY_CHANGES[words](arrays[name], rng)
    path.write_bytes(saved({**arrays, "record": np.array(json.dumps(record))}))
    return f"checkpoint.npz: {how} {words}"
