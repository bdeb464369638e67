"""Bad questions to a result, and damaged run directories, are refused with one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.results.extrapolation import extrapolate
from tests.bad_files import WRITTEN, after, cut, ladder, run, written
from tests.bad_input import FINITE, assert_told, formula, noting, path, solve, solved, triangle


def loaded(folder: Path, **changed: Any) -> Any:
    """A saved run with entries of its JSON replaced (None: left out)."""
    file = run(folder) / "solution.json"
    record = {**json.loads(file.read_text()), **changed}
    file.write_text(json.dumps({k: v for k, v in record.items() if v is not None}))
    return dnl.load(folder)


ROWS = [
    noting(lambda: solved().control("W"), "control", "'W'", "['u']", "unknown control"),
    noting(lambda: solved().control(["u"]), "control", "['u']", "['u']", "list of controls"),
    noting(lambda: solved().state([0.5, 1.1]), "t", "1.1", "times from 0 to 1", "state after T"),
    noting(lambda: solved().costate(-0.1), "t", "-0.1", "times from 0 to 1", "costate before 0"),
    noting(lambda: solved().state("end"), "t", "'end'", FINITE, "time of text"),
    noting(
        lambda: dnl.distance(solved(), "runs"),
        "distance.b",
        "'runs'",
        "a Solution",
        "distance to text",
    ),
    noting(
        lambda: dnl.distance(solved(), solved(), "L1"),
        "distance.norm",
        "'L1'",
        "'L2' or 'H1' or 'sup'",
        "unknown norm",
    ),
    noting(
        lambda: dnl.distance(solved(), solved(), of="v"),
        "distance",
        "'v'",
        "a common control",
        "distance of an unknown",
    ),
    noting(
        lambda: dnl.distance(solved(), solved(), of=["u"]),
        "distance.of",
        "['u']",
        "the name of a control",
        "list as of",
    ),
    noting(
        lambda: dnl.distance(solved(), solved(triangle)),
        "distance",
        "['u'] and ['w']",
        "a common control",
        "distance of two problems",
    ),
    noting(
        lambda: dnl.distance(solved(), solve(path(horizon=2.0))),
        "distance",
        "horizons 1 and 2",
        "one problem",
        "distance of two horizons",
    ),
    noting(
        lambda: dnl.distance(solved(), solve(path(x0=np.ones((3, 1)))), "sup", "states"),
        "distance",
        "(2, 1) and (3, 1)",
        "one problem",
        "distance of two samplings",
    ),
    noting(
        lambda: dnl.distance(solved(), solve(formula(lambda t, x, u: u.u))),
        "distance",
        "different controls 'u'",
        "one problem",
        "distance of two shapes",
    ),
    noting(
        lambda: extrapolate([1, 2], [1.0]),
        "extrapolate.depths",
        "2 depths for 1 values",
        "one value for each",
        "lengths",
    ),
    noting(lambda: solved().save(3), "directory", "3", "a path", "number as directory"),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), ROWS)
def test_the_message_names_argument_seen_and_allowed(call, argument: str, seen: str, allowed: str):
    assert_told(call, argument, seen, allowed)


FILES = [
    noting(
        lambda d: dnl.load(written(d, "solution.json", b'{"a": 1}')),
        "run",
        "of another program",
        "this library",
        "foreign",
    ),
    noting(
        lambda d: dnl.load(written(d, "solution.json", b"\xff\xfe")),
        "run",
        "not JSON",
        WRITTEN,
        "binary as JSON",
    ),
    noting(
        lambda d: dnl.load(written(d, "solution.json", b"[" * 10**5)),
        "run",
        "not JSON",
        WRITTEN,
        "JSON without an end",
    ),
    noting(
        lambda d: after(d, lambda d: cut(d / "solution.json")),
        "run",
        "truncated or not JSON",
        WRITTEN,
        "truncated JSON",
    ),
    noting(
        lambda d: after(d, lambda d: cut(d / "arrays.npz")),
        "run",
        "truncated",
        "a complete run directory",
        "truncated npz",
    ),
    noting(
        lambda d: after(d, lambda d: (d / "arrays.npz").unlink()),
        "run",
        "missing",
        "a complete run directory",
        "no npz",
    ),
    noting(
        lambda d: after(d, lambda d: shutil.copy(run(d / "b", triangle) / "arrays.npz", d)),
        "run",
        "not the one saved",
        "a complete run directory",
        "npz of another run",
    ),
    noting(
        lambda d: loaded(d, format=2),
        "run",
        "format 2",
        "format 1; use the version that wrote it",
        "newer format",
    ),
    noting(
        lambda d: loaded(d, grid=None), "run", "'grid'", "this library", "JSON without its grid"
    ),
    noting(
        lambda d: loaded(d, grid={"depth": 5, "horizon": 1.0, "rule": "left"}),
        "run",
        "depth 5",
        "this library",
        "JSON of another depth",
    ),
    noting(
        lambda d: run(ladder(d)),
        "directory",
        "holds a study",
        "a new directory",
        "solution into a study",
    ),
    noting(
        lambda d: run(written(d, "f", b"") / "f"),
        "directory",
        "f (File exists)",
        "can be made",
        "file as directory",
    ),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), FILES)
def test_the_message_about_a_file_names_argument_seen_and_allowed(
    call, argument: str, seen: str, allowed: str, tmp_path: Path
):
    assert_told(lambda: call(tmp_path), argument, seen, allowed)


def test_a_rounded_end_time_is_allowed():
    assert solved().state([0.0, 0.5, 1.0 + 1e-15]) is not None
