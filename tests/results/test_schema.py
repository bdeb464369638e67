"""Records and arrays that are not as their table says are refused by name; older ones are read."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.results.solution_files import LEARNT, load_learnt
from tests.bad_files import ladder, run
from tests.bad_input import path
from tests.generated_damage import ARCHIVES, ARRAY_CHANGES, mended, saved

# what may be read all the same: a bit that nothing reads, an archive that begins later
HARMLESS = ("a bit flipped", "something before", "encrypted")
# other forms of the same numbers
SAME = ("of big-endian numbers", "in Fortran order")
REFUSED = (
    "of objects",
    "of records",
    "flat",
    "with one axis more",
    "of rank 6",
    "shorter",
    "longer",
    "empty",
    "one number",
    "with NaN",
    "with an infinity",
)
# today's fields that the first version did not write
LATER = (
    *("arrays", "options", "environment", "multiplier_nodes", "work", "scales", "formulation"),
)


def told(folder: Path, name: str) -> str:
    """The one line of the error, which names the file."""
    with pytest.raises(dnl.InputError) as caught:
        dnl.load(folder)
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert said.startswith("run: got ")
    assert str(folder / name) in said or str(folder) in said
    return said


def rewritten(folder: Path, *keys: Any, value: Any) -> None:
    """One value of the record, by its path."""
    record = json.loads((folder / "solution.json").read_text())
    parent = record
    for key in keys[:-1]:
        parent = parent[key]
    parent[keys[-1]] = value
    (folder / "solution.json").write_text(json.dumps(record))


@pytest.mark.parametrize("name", [n for n in ARCHIVES if n not in HARMLESS])
def test_archives_with_a_checksum_that_fits_are_refused(name, tmp_path):
    data = (run(tmp_path) / "arrays.npz").read_bytes()
    mended(tmp_path, ARCHIVES[name](data, random.Random(0)))
    told(tmp_path, "arrays.npz")


@pytest.mark.parametrize("array", ["states", "control:u"])
@pytest.mark.parametrize("how", REFUSED)
def test_arrays_that_do_not_fit_their_record_are_refused(how, array, tmp_path):
    with np.load(run(tmp_path) / "arrays.npz") as stored:
        arrays = dict(stored)
    arrays[array] = ARRAY_CHANGES[how](arrays[array], random.Random(0))
    mended(tmp_path, saved(arrays))
    assert array in told(tmp_path, "arrays.npz")


@pytest.mark.parametrize("how", SAME)
def test_other_forms_of_the_same_numbers_are_read(how, tmp_path):
    before = dnl.load(run(tmp_path))
    with np.load(tmp_path / "arrays.npz") as stored:
        arrays = {k: ARRAY_CHANGES[how](v, random.Random(0)) for k, v in stored.items()}
    mended(tmp_path, saved(arrays))
    after = dnl.load(tmp_path)
    assert after.states.dtype == np.dtype(float)
    assert np.array_equal(after.states, before.states)
    assert np.array_equal(after.controls["u"].values, before.controls["u"].values)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("value",), [1]),
        (("value",), "0.5"),
        (("value",), None),
        (("stationarity",), -1.0),
        (("tolerance",), "x"),
        (("tolerance",), 0),
        (("status",), 77),
        (("status",), True),
        (("status",), 0.0),
        (("nit",), 10**30),
        (("nit",), -1),
        (("backend",), "evil"),
        (("formulation",), "auto"),
        (("name",), "\ud800"),
        (("grid",), [1]),
        (("grid", "depth"), 10**30),
        (("grid", "depth"), "4"),
        (("grid", "rule"), "midpoint"),
        (("grid", "horizon"), 0),
        (("controls", "u", "on"), "x"),
        (("controls", "u", "at_nodes"), 0),
        (("multipliers",), ["x"]),
        (("log",), 5),
        (("log", 0), [0, 1.0]),
        (("options", "rule"), 3),
        (("options", "dtype"), "float16"),
        (("scales",), {"cost": -1, "controls": {}, "rows": {}, "states": None}),
        (("scales",), {"cost": 1, "controls": {"u": [1, 2, 3]}, "rows": {}, "states": None}),
        (("source",), {"path": 3}),
    ],
)
def test_values_that_a_field_does_not_allow_are_refused(keys, value, tmp_path):
    rewritten(run(tmp_path), *keys, value=value)
    assert str(keys[0]).rstrip("s") in told(tmp_path, "solution.json")


def test_shapes_of_the_record_are_those_of_the_arrays(tmp_path):
    record = json.loads((run(tmp_path) / "solution.json").read_text())
    with np.load(tmp_path / "arrays.npz") as stored:
        assert record["arrays"] == {k: list(v.shape) for k, v in stored.items()}
    rewritten(tmp_path, "arrays", "states", value=[10**12, 2, 1])
    assert "states" in told(tmp_path, "arrays.npz")


def test_files_of_the_first_version_are_read(tmp_path):
    before = dnl.load(run(tmp_path))
    record = json.loads((tmp_path / "solution.json").read_text())
    older = {k: v for k, v in record.items() if k not in LATER}
    assert older.keys() != record.keys()
    (tmp_path / "solution.json").write_text(json.dumps(older))
    after = dnl.load(tmp_path)
    assert after.value == before.value
    assert np.array_equal(after.states, before.states)
    assert after.options == {}


def test_what_is_not_finite_is_read_of_a_failed_solve_alone(tmp_path):
    """A null is NaN where the solve failed; its controls are finite even so."""
    with np.load(run(tmp_path) / "arrays.npz") as stored:
        arrays = dict(stored)
    arrays["states"] = np.full_like(arrays["states"], np.nan)
    mended(tmp_path, saved(arrays))
    told(tmp_path, "arrays.npz")
    rewritten(tmp_path, "status", value=3)
    told(tmp_path, "arrays.npz")
    rewritten(tmp_path, "value", value=None)
    assert np.isnan(dnl.load(tmp_path).value)
    arrays["control:u"] = np.full_like(arrays["control:u"], np.inf)
    mended(tmp_path, saved(arrays))
    told(tmp_path, "arrays.npz")


@pytest.mark.parametrize(
    ("source", "target"), [("L00001", "L00002"), ("L00002", "L00001")], ids=["coarse", "fine"]
)
def test_levels_under_another_depth_are_refused(source, target, tmp_path):
    study = ladder(tmp_path)
    for name in ("solution.json", "arrays.npz"):
        data = (study / source / "adjoint" / name).read_bytes()
        (study / target / "adjoint" / name).write_bytes(data)
    assert "which holds depth" in told(study, f"{target}/adjoint/solution.json")


def test_learnt_memory_of_other_controls_is_refused(tmp_path):
    solution = dnl.load(run(tmp_path / "run"))
    for arrays in (
        {"scale": np.ones(10**4)},
        {"scale": np.full(2, np.nan)},
        {"lowest:u": np.ones(1)},
    ):
        np.savez(tmp_path / LEARNT, **arrays)
        with pytest.raises(dnl.InputError, match=LEARNT):
            load_learnt(tmp_path, path(), solution)
    (tmp_path / LEARNT).write_bytes(b"PK")
    with pytest.raises(dnl.InputError, match=LEARNT):
        load_learnt(tmp_path, path(), solution)
