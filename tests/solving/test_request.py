"""An option goes to the object that has it; one that nothing chosen uses is an error."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.solving.request import DEFAULT, OWNER, resolved
from tests.backends.test_options import growth

# a value of each option that is not its default
OTHER: dict[str, Any] = {
    "formulation": "lifted",
    "force": True,
    "verbose": True,
    "method": "lbfgs",
    "device": "cuda",
    "dtype": "float32",
    "chunk": 7,
    "distributed": True,
    "progress": print,
    "checkpoint": "somewhere",
    "every": 5.0,
    "restart": True,
    "batches": dnl.MiniBatches(),
}
BACKENDS = ("exact", "adjoint")
OWN = {name: kind.name for name, kind in OWNER.items()} | {"batches": "adjoint"}


def test_the_table_is_whole():
    assert set(OTHER) == set(DEFAULT) == set(OWN)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", DEFAULT)
def test_a_keyword_at_its_default_is_allowed_with_either_backend(name: str, backend: str):
    assert resolved(backend, {name: DEFAULT[name]}) == resolved(backend, {})


@pytest.mark.parametrize("name", [n for n in OTHER if OWN[n] == "adjoint"])
def test_the_exact_backend_refuses_what_is_the_adjoint_one_s(name: str):
    with pytest.raises(dnl.InputError, match=rf"^{name}: got .*for the exact backend") as error:
        dnl.solve(growth(), 3, "exact", **{name: OTHER[name]})
    assert "backend='adjoint'" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [n for n in OTHER if OWN[n] == "exact"])
def test_the_adjoint_backend_refuses_what_is_the_exact_one_s(name: str):
    with pytest.raises(dnl.InputError, match=rf"^{name}: got .*for the adjoint backend") as error:
        dnl.solve(growth(), 3, "adjoint", **{name: OTHER[name]})
    assert "backend='exact'" in str(error.value)


def test_mini_batches_are_refused_by_a_method_without_them():
    with pytest.raises(dnl.InputError, match=r"^batches: got .*for the method 'newton'"):
        dnl.solve(growth(), 3, "adjoint", batches=dnl.MiniBatches())


@pytest.mark.parametrize("name", DEFAULT)
def test_an_object_refuses_a_shorthand_beside_it(name: str):
    with pytest.raises(dnl.InputError, match=rf"^{name}: got .* beside backend=dnl\.Adjoint\("):
        resolved(dnl.Adjoint(), {name: OTHER[name]})


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("chunks", "chunk"), ("tolerence", "tolerance"), ("max_iter", "max_iterations")],
)
def test_an_unknown_option_names_the_nearest(wrong: str, near: str):
    words = f"solve option: got {wrong!r}; allowed: "
    with pytest.raises(dnl.InputTypeError, match=re.escape(words)) as error:
        dnl.solve(growth(), 3, **{wrong: 1})
    assert str(error.value).endswith(f"the nearest is {near!r}")


def test_what_follows_the_backend_is_keyword_only():
    with pytest.raises(TypeError, match="positional"):
        dnl.solve(growth(), 3, "exact", "left")  # type: ignore[misc]


# -- a study ---------------------------------------------------------------------------------------


def test_a_study_gives_each_backend_its_own_options():
    study = dnl.study(growth(), [2, 4], 4, method="lbfgs", formulation="condensed")
    for level in study.levels:
        assert level.adjoint.options["method"] == "lbfgs"
        assert level.exact is not None
        assert level.exact.options["formulation"] == "condensed"
        assert "formulation" not in level.adjoint.options
        assert "method" not in level.exact.options


def test_a_study_takes_an_object():
    by_object = dnl.study(growth(), [2, 4], backend=dnl.Adjoint(method=dnl.GaussNewton()))
    by_words = dnl.study(growth(), [2, 4], method="gauss-newton")
    assert [r["value"] for r in by_object.rows] == [r["value"] for r in by_words.rows]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"formulation": "lifted"}, "formulation: got 'lifted'; allowed: 'auto' for the adjoint"),
        ({"every": 5.0}, "every: got 5.0 without a checkpoint"),
        ({"chunk": -3}, "chunk: got -3"),
        ({"checkpoint": "here"}, "study option: got checkpoint = 'here'"),
        ({"distributed": True}, "study option: got distributed = True"),
        ({"backend": dnl.Adjoint(checkpoint="here")}, "study option: got checkpoint = 'here'"),
        ({"backend": "ipopt"}, "backend: got 'ipopt'"),
        ({"chunks": 3}, "study option: got 'chunks'"),
    ],
)
def test_a_study_refuses_what_no_level_uses(options: dict, words: str):
    with pytest.raises(dnl.InputError, match=re.escape(words)):
        dnl.study(growth(), [2, 4], **options)


def test_every_belongs_to_a_study_with_a_directory(tmp_path):
    study = dnl.study(growth(), [2, 4], directory=tmp_path / "run", every=0.0)
    assert study.success
    assert study.levels[0].adjoint.options["checkpoint"].endswith("L00002/adjoint")


def test_a_study_by_successive_approximation_keeps_its_levels(tmp_path):
    """Its steps cannot be continued; what is finished is kept all the same."""
    linear = dnl.ControlProblem(
        x0=np.ones(1),
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control(())},
        running=lambda t, x, u: 0.5 * u.u**2 + x,
    )  # one step of the approximation is the minimiser
    said: list[str] = []
    for _ in range(2):
        study = dnl.study(
            linear, [2, 4], method="msa", directory=tmp_path / "run", progress=said.append
        )
    assert study.success
    assert said[-1].startswith("L=4 adjoint: kept from")


# -- what a solve learnt ---------------------------------------------------------------------------


def test_what_was_learnt_lives_as_long_as_its_solution():
    from dnlcontrol.solving import learnt

    solution = dnl.solve(growth(), 8, "adjoint")
    assert learnt.recall(solution).preconditioner is not None
    assert not hasattr(solution, "preconditioner")
    before = len(learnt._beside)
    learnt.forget(solution)
    assert learnt.recall(solution).preconditioner is None
    assert len(learnt._beside) == before - 1
    again = dnl.solve(growth(), 8, "adjoint")
    assert len(learnt._beside) == before
    del again
    assert len(learnt._beside) == before - 1


def test_what_was_learnt_saves_products():
    """A start whose Hessian is known takes no more products than one that is learnt again."""
    from dnlcontrol.solving import learnt

    coarse = dnl.solve(growth(), 16, "adjoint")
    known = dnl.solve(growth(), 32, "adjoint", start=coarse)
    learnt.forget(coarse)
    again = dnl.solve(growth(), 32, "adjoint", start=coarse)
    assert known.nhev <= again.nhev
    assert np.isclose(known.value, again.value, rtol=0, atol=1e-14)
