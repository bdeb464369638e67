"""Every file in problems/ loads, says in one line what it is, builds and names its sources."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.discretisation.space.control_space import ControlSpace

FOLDER = Path(__file__).parents[2] / "problems"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
WITH_REFERENCE = [
    n for n in NAMES if "def reference(" in (FOLDER / f"{n}.py").read_text(encoding="utf-8")
]
DATA = {"iris_dense", "digits_dense", "densenet_images"}


def load(name: str):
    if name in DATA:
        pytest.importorskip("sklearn")
    return importlib.import_module(f"problems.{name}")


def test_the_collection_is_complete():
    known = {"t": "2 3b 4 5 7", "v": "1 2 5 8", "o": "1 2 4 5b", "f": "1 2 3 4 5"}
    ids = {letter + number for letter, numbers in known.items() for number in numbers.split()}
    assert ids <= {name.split("_")[0] for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_first_line_of_the_docstring(name: str):
    text = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8")))
    first, blank = (text or "").splitlines()[:2]
    assert 20 <= len(first) <= 120
    assert first.endswith(".")
    assert blank == ""
    assert "\nSource: " in (text or "")


@pytest.mark.parametrize("name", NAMES)
def test_problem_builds_and_has_an_initial_guess(name: str):
    problem = load(name).problem()
    assert isinstance(problem, dnl.ControlProblem)
    assert problem.name == name
    for L in (1, 2, 3):
        assert np.all(np.isfinite(ControlSpace(problem, Grid(L, problem.horizon)).initial()))


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_reference_has_a_source_and_fits_the_problem(name: str):
    module = load(name)
    problem, reference = module.problem(), module.reference()
    assert isinstance(reference, dnl.Reference)
    assert reference.source
    assert list(reference.orders) == sorted(set(reference.orders))
    assert reference.orders[0] > 0
    on = {"t": (0.5,), "ts": (0.5, 0.25), "const": ()}
    for key, function in reference.controls.items():
        control = problem.controls[key]
        times = [np.full((3, 2), t) for t in on[control.on]]
        assert np.shape(function(*times)) == ((3, 2) if times else ()) + control.shape
    if reference.state is not None:
        assert np.shape(reference.state(np.full((3, 2), 0.25))) == (3, 2, *problem.state_shape)
        assert np.allclose(reference.state(0.0), problem.x0[0], rtol=0, atol=1e-14)
    if reference.discrete_controls is not None:
        space = ControlSpace(problem, Grid(8, problem.horizon))
        packed = reference.discrete_controls(8)
        assert {k: v.shape for k, v in packed.items()} == {
            k: v.shape for k, v in space.split(space.initial()).items()
        }


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("t2_scalar_resnet", {"target": 5.0}),
        ("v2_transient_impact", {"eta": 0.0}),
        ("v5_minimum_energy", {"alpha": 0.5}),
        ("o4_bryson_denham", {"bound": 0.2}),
    ],
)
def test_reference_rejects_parameters_without_a_known_answer(name: str, parameters: dict):
    with pytest.raises(dnl.InputError, match=next(iter(parameters))):
        load(name).reference(**parameters)


@pytest.mark.parametrize(
    ("name", "parameters", "samples"),
    [
        ("v2_transient_impact", {"samples": 2}, 2),
        ("two_class_toy", {"samples": 6, "width": 3}, 6),
        ("spirals", {"samples": 10, "scale": 0.5}, 10),
        ("iris_dense", {"samples": 30, "form": "A"}, 30),
        ("iris_dense", {"samples": 30, "form": "B"}, 30),
        ("digits_dense", {"samples": 20, "width": 5}, 20),
        ("densenet_images", {"samples": 20, "side": 4, "channels": 2, "plain": 3}, 20),
        ("resnet_tvg", {"samples": 7}, 7),
    ],
)
def test_parameters(name: str, parameters: dict, samples: int):
    assert load(name).problem(**parameters).samples == samples


def test_the_data_are_scaled_and_balanced():
    iris = load("iris_dense").problem(samples=30)
    assert iris.terminal.target.sum(0).tolist() == [10, 10, 10]
    assert np.allclose(load("iris_dense").problem().x0.std(0), 1)
    digits = load("digits_dense").problem(samples=1797)
    covariance = np.cov(digits.x0.T, bias=True)
    assert np.allclose(covariance, np.diag(np.diag(covariance)), rtol=0, atol=1e-12)
    assert np.isclose(covariance[0, 0], 1)
