"""A backend's object carries its options: checked when made, the same by name or by object."""

from __future__ import annotations

import math
import re
from dataclasses import FrozenInstanceError, fields
from functools import partial

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.options import METHODS, Goal, method_of


def growth(**more) -> dnl.ControlProblem:
    """x' = u x on [0, 1], towards 2; one control of the path."""
    return dnl.ControlProblem(
        **{
            "x0": np.linspace(0.5, 1.5, 6).reshape(6, 1),
            "dynamics": dnl.ODE(lambda t, x, u: u.u * x),
            "controls": {"u": dnl.Control((), initial=0.1)},
            "terminal": lambda x, c: (x[0] - 2.0) ** 2,
            "regularisers": [dnl.H1("u", 0.1)],
            **more,
        }
    )


WRONG = {
    "formulation": (lambda: dnl.Exact(formulation="dense"), "formulation: got 'dense'"),
    "force": (lambda: dnl.Exact(force="maybe"), "force: got 'maybe'"),
    "verbose": (lambda: dnl.Exact(verbose=1), "verbose: got 1"),
    "method": (lambda: dnl.Adjoint(method="nadam"), "method: got 'nadam'"),
    "a class": (lambda: dnl.Adjoint(method=dnl.Newton), "method: got <class"),
    "a number": (lambda: dnl.Adjoint(method=3), "method: got 3"),
    "device": (lambda: dnl.Adjoint(device="tpu"), "device: got 'tpu'"),
    "device number": (lambda: dnl.Adjoint(device="cuda:x"), "device: got 'cuda:x'"),
    "dtype": (lambda: dnl.Adjoint(dtype="float16"), "dtype: got 'float16'"),
    "chunk": (lambda: dnl.Adjoint(chunk=-3), "chunk: got -3"),
    "distributed": (lambda: dnl.Adjoint(distributed=1), "distributed: got 1"),
    "progress": (lambda: dnl.Adjoint(progress="yes"), "progress: got 'yes'"),
    "checkpoint": (lambda: dnl.Adjoint(checkpoint=3), "checkpoint: got 3"),
    "every": (lambda: dnl.Adjoint(checkpoint="here", every=math.nan), "every: got nan"),
    "every below 0": (lambda: dnl.Adjoint(checkpoint="here", every=-1), "every: got -1"),
    "restart alone": (lambda: dnl.Adjoint(restart=True), "restart: got True without a checkpoint"),
    "restart": (lambda: dnl.Adjoint(restart=1), "restart: got 1"),
    "every alone": (lambda: dnl.Adjoint(every=5.0), "every: got 5.0 without a checkpoint"),
    "msa goes on": (lambda: dnl.Adjoint(method="msa", checkpoint="here"), "checkpoint: got 'here'"),
    "msa on ranks": (lambda: dnl.Adjoint(method="msa", distributed=True), "method: got 'msa'"),
    "extended": (lambda: dnl.MSA(extended="very"), "MSA.extended: got 'very'"),
    "batches": (lambda: dnl.Adam(batches=16), "Adam.batches: got 16"),
    "batch size": (lambda: dnl.SGD(dnl.MiniBatches(size=0)), "MiniBatches.size: got 0"),
    "factory": (lambda: dnl.TorchOptimiser("adam"), "TorchOptimiser.factory: got 'adam'"),
    "tolerance": (lambda: Goal(tolerance=0), "tolerance: got 0"),
    "iterations": (lambda: Goal(max_iterations=0), "max_iterations: got 0"),
    "seconds": (lambda: Goal(max_seconds=0), "max_seconds: got 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_object_is_checked_when_it_is_made(name: str):
    make, words = WRONG[name]
    with pytest.raises(dnl.InputError, match=re.escape(words)) as error:
        make()
    assert "\n" not in str(error.value)
    assert "allowed: " in str(error.value)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_name_as_shorthand(name: str):
    made = METHODS[name]()
    assert made.name == name
    assert method_of(name) == made == method_of(made)
    assert dnl.Adjoint(method=name) == dnl.Adjoint(method=made)
    with pytest.raises(FrozenInstanceError):
        dnl.Adjoint(method=name).chunk = 3  # type: ignore[misc]


OBJECTS = {
    "exact": dnl.Exact(),
    "exact condensed": dnl.Exact(formulation="condensed"),
    "adjoint": dnl.Adjoint(),
    "adjoint lbfgs": dnl.Adjoint(method=dnl.LBFGS(), chunk=2),
    "adjoint adam": dnl.Adjoint(method=dnl.Adam(dnl.MiniBatches(size=3, epochs=2))),
}
WORDS: dict[str, dict] = {
    "exact": {},
    "exact condensed": {"formulation": "condensed"},
    "adjoint": {},
    "adjoint lbfgs": {"method": "lbfgs", "chunk": 2},
    "adjoint adam": {"method": "adam", "batches": dnl.MiniBatches(size=3, epochs=2)},
}


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_and_its_words_are_the_same_solve(name: str):
    """Bit for bit, and the record holds the options of the backend that ran and of no other."""
    by_object = dnl.solve(growth(), 6, OBJECTS[name])
    by_words = dnl.solve(growth(), 6, name.split()[0], **WORDS[name])
    assert by_object.value == by_words.value
    assert by_object.options == by_words.options
    np.testing.assert_array_equal(by_object.controls["u"].values, by_words.controls["u"].values)
    limits = {"tolerance", "max_iterations", "max_seconds"}
    common = {"backend", "rule", "warm", "start", "seeds"} | limits
    own = {f.name for f in fields(OBJECTS[name])} - {"progress", "every", "restart"}
    batches = {"batches"} if "adam" in name else set()
    assert set(by_object.options) == common | own | batches


def told_of(told: list[np.ndarray]):
    """A progress that keeps the controls after every epoch."""
    return lambda iterate: told.append(iterate.controls)


def test_torch_s_adam_is_adam():
    """Two implementations of one formula: iterates agree to rounding, through all epochs."""
    torch = pytest.importorskip("torch")
    batches = dnl.MiniBatches(size=2, epochs=5, polish=False)
    ways = {"name": "adam", "factory": partial(torch.optim.Adam, lr=0.05)}
    seen: dict[str, list[np.ndarray]] = {}
    for way, method in ways.items():
        told = seen.setdefault(way, [])
        more = {"method": method, "batches": batches, "progress": told_of(told)}
        with pytest.warns(dnl.ConvergenceWarning):
            dnl.solve(growth(), 6, "adjoint", **more)
    by_name, by_factory = seen.values()
    assert len(by_name) == len(by_factory) == 5
    # 15 steps of size 0.05, each with a few roundings of numbers below 1
    np.testing.assert_allclose(by_factory, by_name, rtol=0, atol=15 * 8 * 2.2e-16)


def test_a_torch_optimiser_ends_at_the_minimiser():
    torch = pytest.importorskip("torch")
    exact = dnl.solve(growth(), 6)
    found = dnl.solve(growth(), 6, "adjoint", method=partial(torch.optim.RMSprop, lr=1e-2))
    assert found.success
    assert found.options["method"] == "torch"
    assert found.value == pytest.approx(exact.value, abs=1e-12)


def test_a_torch_optimiser_goes_on_where_it_was():
    """What is kept of its state makes the next step the one that would have been."""
    torch = pytest.importorskip("torch")
    from dnlcontrol.backends.adjoint.stochastic import TorchMove

    method = dnl.TorchOptimiser(partial(torch.optim.Adam, lr=0.1))
    rng = np.random.default_rng(3)
    first = TorchMove(method, 4)
    w = rng.standard_normal(4)
    for _ in range(3):
        w = first(w, rng.standard_normal(4), 1.0)
    second = TorchMove(method, 4)
    second.moments, second.steps = first.moments, first.steps
    g = rng.standard_normal(4)
    np.testing.assert_array_equal(second(w, g, 0.5), first(w, g, 0.5))
    assert first.steps == second.steps == 4


def test_the_rate_of_the_batches_replaces_the_optimiser_s_own():
    torch = pytest.importorskip("torch")
    from dnlcontrol.backends.adjoint.stochastic import TorchMove

    factory = partial(torch.optim.SGD, lr=0.5)
    w, g = np.ones(2), np.array([1.0, -2.0])
    own = TorchMove(dnl.TorchOptimiser(factory), 2)
    np.testing.assert_array_equal(own(w, g, own.rate), w - 0.5 * g)
    given = TorchMove(dnl.TorchOptimiser(factory, dnl.MiniBatches(rate=0.125)), 2)
    np.testing.assert_array_equal(given(w, g, 0.125), w - 0.125 * g)


def test_an_optimiser_that_needs_a_closure_is_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(dnl.InputTypeError, match=r"method: got torch\.optim\.LBFGS; allowed: "):
        dnl.solve(growth(), 3, "adjoint", method=torch.optim.LBFGS)


def test_a_function_that_makes_no_optimiser_is_refused():
    with pytest.raises(dnl.InputTypeError, match=r"method: got .*; allowed: a function of a list"):
        dnl.solve(growth(), 3, "adjoint", method=lambda parameters: None)
