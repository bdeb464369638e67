"""A problem's parts: complete, the same in every process, and named where they change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.discretisation.fingerprint import changed, fingerprint
from dnlcontrol.discretisation.formula_graph import digest_of, digest_of_numbers
from tests.generated_edits import FAMILIES, Edit, ingredients, made

ROOT = Path(__file__).parents[2]
PROBLEM = {
    k: v for k, v in FAMILIES["constrained"].items() if k not in ("tolerance", "guess", "scale")
}
OTHER = {
    "x0": [[1.0], [0.75]],
    "label": "other",
    "target": [[2.0], [1.0]],
    "rows": (0,),
    "aim": [[0.0], [1.0]],
    "level": [[0.0], [0.2]],
}


def parts(edit: Edit | None = None) -> dict[str, str]:
    return fingerprint(made(ingredients(edit, "constrained")), "left")


@pytest.mark.parametrize("key", PROBLEM)
def test_the_part_that_changed_is_named_and_no_other(key):
    value, named = PROBLEM[key]
    other = OTHER[key] if key in OTHER else np.nextafter(value, np.inf)  # the last bit
    assert changed(parts(), parts(Edit("constrained", key, other, named))) == [named]


def test_two_problems_made_alike_have_the_same_parts():
    assert not changed(parts(), parts())


def test_the_rule_and_a_missing_part_are_named():
    problem = made(ingredients(None, "constrained"))
    assert changed(fingerprint(problem, "left"), fingerprint(problem, "trapezoid")) == ["rule"]
    fewer = {k: v for k, v in parts().items() if k != "x0"}
    assert changed(fewer, parts()) == ["x0"]
    assert changed(parts(), fewer) == ["x0"]


def test_another_process_finds_the_same_parts():
    """Hashes of strings differ there, and so do ids."""
    code = (
        "from tests.discretisation.test_fingerprint import parts\n"
        "from dnlcontrol.discretisation.fingerprint import digest_of_words\n"
        "print(digest_of_words(f'{k}={v}' for k, v in parts().items()))"
    )
    command = [sys.executable, "-c", code]
    found = {
        subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_a_graph_is_pinned():
    """The digest of files that are on disk: a change of it makes them unreadable."""
    problem = dnl.ControlProblem(
        x0=np.ones(1),
        dynamics=dnl.ODE(lambda t, x, u: dnl.namespace(x).sin(2.0 * x) - u.u),
        controls={"u": dnl.Control(())},
    )
    assert digest_of(problem.formulas.kernel).startswith("20399c29159552e3")


VOCABULARY = {
    "sum": lambda xp, x: xp.sum(x),
    "sum of rows": lambda xp, x: xp.sum(x, 0)[0],
    "sum of columns": lambda xp, x: xp.sum(x, 1)[0],
    "mean": lambda xp, x: xp.mean(x),
    "largest": lambda xp, x: xp.max(x),
    "least": lambda xp, x: xp.min(x),
    "softmax": lambda xp, x: xp.softmax(x)[0, 1],
    "softmax of columns": lambda xp, x: xp.softmax(x, 0)[0, 1],
    "entry": lambda xp, x: x[0, 1],
    "another entry": lambda xp, x: x[1, 0],
    "transposed": lambda xp, x: x.T[0, 1] * 1.0,
    "product": lambda xp, x: (x @ x)[0, 1],
    "power": lambda xp, x: xp.sum(x**2),
    "where": lambda xp, x: xp.sum(xp.where(x > 0, x, 0.0)),
    "the other where": lambda xp, x: xp.sum(xp.where(x < 0, x, 0.0)),
    "reshaped": lambda xp, x: xp.reshape(x, (4,))[1],
    "stacked": lambda xp, x: xp.stack([x[0, 0], x[0, 1]])[1],
    "joined": lambda xp, x: xp.concat([x, x], 1)[0, 3],
    "a slice": lambda xp, x: xp.sum(x[:, 1:]),
    "another slice": lambda xp, x: xp.sum(x[:, :1]),
    "a constant array": lambda xp, x: xp.sum(xp.asarray(np.eye(2)) * x),
    "another": lambda xp, x: xp.sum(xp.asarray(np.ones((2, 2))) * x),
    "negative": lambda xp, x: -x[0, 1],
    "over": lambda xp, x: 1.0 / x[0, 1],
    "under": lambda xp, x: x[0, 1] / 1.0,
    "absolute": lambda xp, x: abs(x[0, 1]),
}


def test_the_whole_vocabulary_has_graphs_and_no_two_are_one():
    found = {}
    for name, fn in VOCABULARY.items():
        problem = dnl.ControlProblem(
            x0=np.ones((1, 2, 2)),
            dynamics=dnl.ODE(lambda t, x, u: x),
            terminal=lambda x, c, fn=fn: fn(dnl.namespace(x), x),
        )
        found[name] = digest_of(problem.formulas.terminal)
    assert len(set(found.values())) == len(VOCABULARY)


def test_numbers_are_compared_to_the_last_bit_and_in_shape():
    assert digest_of_numbers([1.0, 2.0]) == digest_of_numbers(np.array([1, 2]))
    assert digest_of_numbers(1.0) != digest_of_numbers(np.nextafter(1.0, 2.0))
    assert digest_of_numbers(np.zeros(2)) != digest_of_numbers(np.zeros((1, 2)))
    assert digest_of_numbers(np.arange(6.0).reshape(2, 3).T) == digest_of_numbers(
        np.array([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]])
    )


def test_declared_derivatives_of_activations_are_a_part():
    """Nothing compares them with the activation, and gradients come from them."""

    def network(factor):
        @dnl.activations.known(slope=lambda y: factor * (1.0 - y * y))
        def sigma(x):
            return dnl.namespace(x).tanh(x)

        return dnl.ControlProblem(x0=np.ones((1, 2)), dynamics=dnl.Dense(2, activation=sigma))

    found = changed(*(fingerprint(network(f), "left") for f in (1.0, 0.5)))
    assert found == ["derivatives of activations"]
