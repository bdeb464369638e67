"""Bad studies and damaged study directories are refused with one line."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import dnlcontrol as dnl
from tests.bad_files import WRITTEN, after, cut, ladder, run, written
from tests.bad_input import assert_told, noting, path, uncontrolled


@cache
def studied() -> dnl.Study:
    return dnl.study(path(), [1, 2])


def saved_study(folder: Path) -> Path:
    studied().save(folder)
    return folder


ROWS = [
    noting(
        lambda: dnl.study("toy", [1]), "problem", "'toy'", "a ControlProblem", "name as problem"
    ),
    noting(
        lambda: dnl.study(uncontrolled(), [1]),
        "problem",
        "without controls",
        "use simulate",
        "study of nothing",
    ),
    noting(lambda: dnl.study(path(), []), "depths", "[]", "non-empty", "no depths"),
    noting(
        lambda: dnl.study(path(), [4, 2]),
        "depths",
        "[4, 2]",
        "strictly increasing",
        "decreasing depths",
    ),
    noting(
        lambda: dnl.study(path(), [1.0, 2.0]), "depths", "1.0", "an integer >= 1", "float depths"
    ),
    noting(
        lambda: dnl.study(path(), 4), "depths", "4", "a list of increasing integers", "one depth"
    ),
    noting(
        lambda: dnl.study(path(), [1], exact_to=-1),
        "exact_to",
        "-1",
        "an integer >= 0",
        "negative exact_to",
    ),
    noting(
        lambda: dnl.study(path(), [1], reference=0.5),
        "reference",
        "0.5",
        "a Reference",
        "number as reference",
    ),
    noting(
        lambda: dnl.study(path(), [1], max_iter=3),
        "study option",
        "'max_iter'",
        "'max_iterations'",
        "unknown option",
    ),
    noting(
        lambda: dnl.study(path(), [1], progress=1),
        "progress",
        "1",
        "a function",
        "number as progress",
    ),
    noting(
        lambda: dnl.study(path(), [1], start="x"), "start", "'x'", "a Solution", "start of text"
    ),
    noting(lambda: dnl.load(None), "run", "None", "the path of a run directory", "load of nothing"),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), ROWS)
def test_the_message_names_argument_seen_and_allowed(call, argument: str, seen: str, allowed: str):
    assert_told(call, argument, seen, allowed)


FILES = [
    noting(
        lambda d: dnl.load(d / "none"), "run", "no such directory", WRITTEN, "missing directory"
    ),
    noting(
        lambda d: dnl.load(d),
        "run",
        "without solution.json or study.json",
        WRITTEN,
        "empty directory",
    ),
    noting(
        lambda d: dnl.load(written(d, "study.json", b"[1]")),
        "run",
        "of another program",
        "a study",
        "foreign study",
    ),
    noting(
        lambda d: after(d, lambda d: cut(d / "study.json"), saved_study),
        "run",
        "truncated or not JSON",
        WRITTEN,
        "truncated study",
    ),
    noting(
        lambda d: after(d, lambda d: shutil.rmtree(d / "L00002"), saved_study),
        "run",
        "no solution.json",
        WRITTEN,
        "study without a level",
    ),
    noting(
        lambda d: after(d, lambda d: cut(d / "L00002" / "adjoint" / "arrays.npz"), saved_study),
        "run",
        "truncated",
        "a complete run directory",
        "study with a truncated level",
    ),
    noting(
        lambda d: dnl.load(
            written(
                d,
                "study.json",
                b'{"kind": "study", "format": 1, "name": "", "depths": [], '
                b'"summary": {"levels": []}}',
            )
        ),
        "run",
        "study.json, where ['depths'] is []",
        "non-empty",
        "study without depths",
    ),
    noting(
        lambda d: dnl.study(path(x0=np.zeros((2, 1))), [1], directory=ladder(d)),
        "directory",
        "another problem",
        "a new directory",
        "study directory of other data",
    ),
    noting(
        lambda d: dnl.study(path(terminal=lambda x, c: x[0]), [1], directory=ladder(d)),
        "directory",
        "another problem",
        "a new directory",
        "study directory of another cost",
    ),
    noting(
        lambda d: dnl.study(path(), [1], directory=written(d, "problem.json", b"{}")),
        "run",
        "of another program",
        "this library",
        "study directory of another program",
    ),
    noting(
        lambda d: dnl.study(path(), [1], directory=run(d)),
        "directory",
        "holds a solution",
        "a new directory",
        "study into a solution",
    ),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), FILES)
def test_the_message_about_a_file_names_argument_seen_and_allowed(
    call, argument: str, seen: str, allowed: str, tmp_path: Path
):
    assert_told(lambda: call(tmp_path), argument, seen, allowed)
