"""Valid arguments of every public callable.

A public callable without an example here fails ``tests/test_generated_calls.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import dnlcontrol as dnl
from dnlcontrol.certificates import depth as infinite
from dnlcontrol.problem.engines import FUNCTIONS
from tests.bad_input import path
from tests.call_examples import (
    METHODS_OF,
    activation,
    along,
    along_u,
    bounded,
    function,
    ladder,
    linears,
    network_problem,
    optimiser,
    resnets,
    saved,
    stack,
    tensor,
    value_function,
)

ESTIMATORS = ("DenseControlClassifier", "DenseControlRegressor")  # with scikit-learn only
ROW = {"lower": 0.0, "upper": 1.0, "name": "row", "samples": [0]}
SIDES = {"size": (2, 2), "channels": 1, "window": 3}
SPREAD = np.array([[0.5, 0.25], [0.0, 0.5]])


def _level() -> dict[str, Any]:
    return {"problem": path(), "depth": 2, "rule": "left"}


def _solve() -> dict[str, Any]:
    given = {"problem": path(), "depth": 2, "backend": "adjoint", "rule": "left", "start": {"u": 0}}
    limits = {"tolerance": 1e-8, "max_iterations": 9, "max_seconds": 60.0, "warm": "controls"}
    options = {"method": "newton", "device": "cpu", "dtype": "float64", "chunk": 1, "every": 60.0}
    more = {"distributed": False, "progress": None, "checkpoint": None, "batches": None}
    return {**given, **limits, **options, **more, "force": False, "verbose": False}


def _study() -> dict[str, Any]:
    given = {k: v for k, v in _solve().items() if k not in ("depth", "progress")}
    del given["checkpoint"]
    more = {"reference": dnl.Reference("exact", value=0.25), "source": {}, "orders": [1.0]}
    also = {"progress": lambda line: None, "follow": lambda iterate: None, "directory": "study"}
    also["restart"] = True
    return {**given, "depths": [1, 2], "exact_to": 1, "formulation": "condensed", **more, **also}


FITTED = {
    **{"depth": 2, "form": "C", "activation": "tanh", "width": 2, "alpha": 0.1, "nested": True},
    **{"start_scale": 0.5, "backend": "adjoint", "method": "newton", "max_iterations": 5},
    **{"tolerance": 1e-6, "random_state": 0},
}


def _solution() -> dict[str, Any]:
    solution = bounded()
    return {name: getattr(solution, name) for name in solution.__dataclass_fields__}


def _fields(make: Callable[[], Any]) -> Callable[[], dict[str, Any]]:
    """The fields of a record that the library makes."""

    once = cache(make)  # a call may take a second

    def given() -> dict[str, Any]:
        record = once()
        return {f.name: getattr(record, f.name) for f in record.__dataclass_fields__.values()}

    return given


def _row(fn: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"fn": fn, **ROW}


def _maps(**more: Any) -> dict[str, Any]:
    given = {"free_term": lambda t, x0: x0, "feature": lambda s, x, u: x}
    return {**given, "outer": lambda t, g, z, u: g + z, **more}


VALID: dict[str, Callable[[], dict[str, Any]]] = {
    "ControlProblem": lambda: {
        **{"name": "p", "horizon": 1.0, "x0": np.ones((2, 1)), "dynamics": dnl.ODE(along_u)},
        **{"controls": {"u": dnl.Control((1,))}, "terminal": function, "running": along},
        **{"regularisers": [dnl.L2("u", 1.0)], "constraints": [dnl.state_bounds(0, 9)]},
    },
    "Control": lambda: {"shape": (1,), "on": "t", "lower": -1.0, "upper": 1.0, "initial": 0.0},
    "smooth_random": lambda: {"seed": 1, "scale": 0.5},
    "namespace": lambda: {"x": np.ones(2)},
    "Volterra": lambda: _maps(kernel=lambda t, s, y, u: y, batched=None),
    "ODE": lambda: {"f": along_u},
    "Dense": lambda: {
        **{"width": 2, "form": "C", "activation": activation, "bias": True},
        **{"feature": lambda s, x, u: x, "feature_controls": {"v": dnl.Control(())}},
    },
    "ResNet": lambda: {"width": 2, "activation": activation},
    "Dynamics": dict,
    "Separable": lambda: _maps(
        factors=lambda t: np.ones(1), terms=lambda s, y, u: dnl.namespace(y).stack([y])
    ),
    "exponential_memory": lambda: _maps(
        rates=[1.0], term=lambda s, y, u: y, weights=[1.0], horizon=1.0
    ),
    "Attention": lambda: {"tokens": 2, "channels": 2, "heads": 1, "causal": False},
    "DenseTransformer": lambda: {
        **{"tokens": 2, "channels": 2, "heads": 1, "causal": False, "hidden": 2},
        **{"activation": activation, "normalise": False, "depth_weights": True},
    },
    "Convolution": lambda: {**SIDES, "activation": activation},
    "DenseNet": lambda: {**SIDES, "form": "B", "activation": activation},
    "Patches": lambda: dict(SIDES),
    "WidthPDE": lambda: {"nodes": 3, "rule": "midpoint", "activation": activation},
    "images": lambda: {"path": "digits", "axes": None},
    "Images": _fields(lambda: dnl.images().first(2, 2)),
    "leaky_relu": lambda: {"x": np.ones(2), "slope": 0.1},
    **{
        name: lambda: {"x": np.ones(2)}
        for name in ["tanh", "relu", "sigmoid", "softplus", "identity"]
    },
    "cost": lambda: {"function": lambda x, c, y: x[0] - y[0], "target": np.ones((2, 1))},
    "head": lambda: {"outputs": 1, "inputs": 1, "initial": 0.0},
    "H1": lambda: {"name": "u", "weight": 1.0},
    "L2": lambda: {"name": "u", "weight": 1.0},
    "TvG": lambda: {"name": "u", "weight": 1.0, "tau": 1.0},
    "state_bounds": lambda: dict(ROW),
    "path_constraint": _row(along),
    "integral_constraint": _row(along),
    "terminal_constraint": lambda: {
        **{"fn": lambda x, c, y: x - y, "target": np.ones((2, 1)), **ROW}
    },
    "Reference": lambda: {
        **{"source": "exact", "value": 1.0, "attained": True, "error_constant": 1.0},
        **{"orders": (1.0, 2.0), "controls": {"u": lambda t: np.ones((*np.shape(t), 1))}},
        **{"state": lambda t: np.ones(1), "forward_constant": 0.0, "note": "n"},
        **{"discrete_value": lambda L: 1.0, "discrete_controls": lambda L: {"u": np.ones((L, 1))}},
    },
    "Grid": lambda: {"depth": 2, "horizon": 1.0, "rule": "left"},
    "ControlSpace": lambda: {"problem": path(), "grid": dnl.Grid(2, 1.0)},
    "DiscreteProblem": lambda: {"problem": path(), "grid": dnl.Grid(2, 1.0)},
    "discretise": lambda: {"problem": path(), "depth": 2, "rule": "left"},
    "Exact": lambda: {"formulation": "auto", "force": False, "verbose": False},
    "Adjoint": lambda: {
        **{"method": "newton", "device": "cpu", "dtype": "float64", "chunk": 1, "every": 1.0},
        **{"distributed": False, "progress": print, "checkpoint": "kept", "restart": False},
    },
    **{name: dict for name in ("Newton", "GaussNewton", "LBFGS")},
    "MSA": lambda: {"extended": False},
    "Adam": lambda: {"batches": dnl.MiniBatches()},
    "SGD": lambda: {"batches": dnl.MiniBatches()},
    "TorchOptimiser": lambda: {"factory": optimiser, "batches": dnl.MiniBatches()},
    "MiniBatches": lambda: {
        **{"size": 2, "epochs": 2, "rate": 0.1, "decay": 0.1, "momentum": 0.5, "seed": 0},
        **{"polish": True},
    },
    "share": lambda: {"samples": 2},
    "solve": _solve,
    "simulate": lambda: {**_level(), "controls": {"u": 0.5}, "device": "cpu"},
    "hamilton_jacobi": lambda: {
        **{"problem": path(x0=[[1.0]]), "depth": 2, "lower": -2.0, "upper": 2.0, "points": 5},
        **{"candidates": 3, "bounds": {"u": (-1.0, 1.0)}},
    },
    "ValueFunction": _fields(value_function),
    "Solution": _solution,
    "distance": lambda: {"a": bounded(), "b": bounded(), "norm": "L2", "of": "controls"},
    "taylor_test": lambda: {**_level(), "seed": 0, "device": "cpu"},
    "certify": lambda: {"solution": bounded(), "tolerance": 1e-6, "seed": 0},
    "Certificate": _fields(lambda: dnl.certify(bounded(), seed=0)),
    "hamiltonian": lambda: {"solution": bounded()},
    "error_constant": lambda: {"solution": resnets()[0]},
    "ErrorConstant": lambda: {
        **{"constant": 1.0, "value": 1.0, "depth": 2, "terms": {"a": 1.0}, "order": 1}
    },
    "recovery_sequence": lambda: {
        **{"problem": path(), "controls": {"u": lambda t: np.ones(1)}, "depths": [1, 2]},
        **{"value": 1.0},
    },
    "RecoverySequence": lambda: {
        **{"depths": (1,), "values": (1.0,), "penalties": (1.0,), "limit": 1.0, "known": True}
    },
    "liminf_check": lambda: {
        **{"problem": path(), "controls": {"u": lambda t: np.ones(1)}, "depths": [1, 2]},
        **{"sequence": lambda L: {"u": 1.0}, "value": 1.0, "amplitude": 1.0},
    },
    "LiminfCheck": lambda: {
        **{"depths": (1,), "values": np.ones((1, 1)), "limit": 1.0, "slacks": np.ones((1, 1))},
        **{"penalty_gaps": np.ones((1, 1)), "data_gaps": np.ones((1, 1))},
    },
    "resnet_limit_report": lambda: {"solutions": resnets(), "least": 0.01},
    "ResNetLimitReport": _fields(lambda: dnl.resnet_limit_report(resnets())),
    "resnet_continuum": lambda: {"start": resnets()[-1], "tolerance": 1e-3, "max_nodes": 50},
    "ResNetContinuum": _fields(lambda: dnl.resnet_continuum(resnets()[-1], 1e-3)),
    "continuum_energy": lambda: {
        **{"problem": network_problem(), "constants": {}, "cells": 8},
        **{"controls": {"K": lambda t: np.ones((1, 1)), "b": lambda t: np.ones(1)}},
    },
    "study": _study,
    "Study": _fields(ladder),
    "load": lambda: {"directory": saved(), "problem": None},
    "multistart": lambda: {
        **{k: v for k, v in _solve().items() if k not in ("start", "max_seconds", "warm")},
        **{"starts": 2, "seed": 0, "scale": 1.0, "workers": 1, "distinct": 1e-3},
        **{"symmetries": dnl.FiniteSymmetry([dict]), "problem": path()},
    },
    "MultiStart": _fields(METHODS_OF["MultiStart"]),
    "align": lambda: {
        **{"solution": bounded(), "reference": bounded(), "symmetries": dnl.SignFlip({"u": 0})}
    },
    "HiddenPermutation": lambda: {"axes": {"u": 0}},
    "SignFlip": lambda: {"axes": {"u": 0}},
    "FiniteSymmetry": lambda: {"maps": [lambda parts: parts]},
    "to_casadi": lambda: _level(),
    "export_c": lambda: {**_level(), "path": "program.c"},
    "CasadiProgram": _fields(METHODS_OF["CasadiProgram"]),
    "to_xarray": lambda: {"solution": bounded()},
    "export_onnx": lambda: {"solution": bounded(), "path": "network.onnx", "head": False},
    **{name: lambda: {} for name in ("InputError", "InputTypeError", "ConvergenceWarning")},
    **{name: lambda: dict(FITTED) for name in ESTIMATORS},
    # -- submodules
    "losses.Cost": lambda: {
        **{"function": function, "target": np.ones((2, 1)), "controls": {}, "name": "n"}
    },
    "losses.Head": lambda: {"outputs": 1, "inputs": 1, "initial": 0.0},
    "losses.squared": lambda: {"target": np.ones((2, 1)), "head": dnl.head(1, 1)},
    "losses.logistic": lambda: {"target": np.ones(2), "head": dnl.head(1, 1)},
    "losses.cross_entropy": lambda: {"labels": [0, 1], "head": dnl.head(2, 1), "classes": 2},
    "activations.Derivatives": lambda: {"slope": activation, "curvature_ratio": activation},
    "activations.derivatives": lambda: {"activation": dnl.tanh},
    "activations.known": lambda: {"slope": activation, "curvature_ratio": activation, "bend": None},
    "dynamics.Affine": lambda: {
        **{"matrix": "W", "bias": "b", "activation": activation, "feature": activation},
        **{"outer": dnl.dynamics.Outer("c", activation)},
    },
    "dynamics.Outer": lambda: {"bias": "b", "activation": activation},
    "init.Summable": lambda: {"alpha": 0.5, "scale": 1.0, "bias_scale": 1.0, "norm": 2.0},
    "init.project_matrix": lambda: {"A": SPREAD, "radius": 0.1, "norm": 2},
    "init.project_vector": lambda: {"b": np.ones(2), "radius": 0.1, "norm": 1},
    "init.square_layers": lambda: {"module": linears(), "inner": 1},
    "init.summable": lambda: {"alpha": 0.5, "scale": 1.0, "bias_scale": 1.0, "norm": 2},
    "certificates.depth.AffineForm": lambda: {
        **{"matrix": np.eye(2), "offset": np.zeros(2), "patterns": (np.ones(2),)}
    },
    "certificates.depth.Contraction": lambda: {
        **{"weight": 0.5 * np.eye(2), "bias": np.ones(2)},
        **{"weights": infinite.Zero(), "biases": infinite.Zero()},
    },
    "certificates.depth.Convolution": lambda: {"filters": np.ones((1, 1, 3)), "size": (4,)},
    "certificates.depth.Decay": lambda: {"gaps": infinite.PowerLaw(1.0, 1.0)},
    "certificates.depth.Declared": lambda: {
        **{"terms": lambda k: 2.0**-k, "tail_sum": lambda n: 2.0**-n},
        **{"diverges": False, "stays_away": False},
    },
    "certificates.depth.Geometric": lambda: {"c": 1.0, "q": 0.5},
    "certificates.depth.NonnegativeTail": lambda: {
        **{"increments": infinite.PowerLaw(1.0, 2.0), "shifts": infinite.PowerLaw(1.0, 2.0)}
    },
    "certificates.depth.PositiveLimits": dict,
    "certificates.depth.PowerLaw": lambda: {"c": 1.0, "s": 2.0},
    "certificates.depth.RegularDomain": lambda: {"points": np.eye(3)[:, :2]},
    "certificates.depth.Report": _fields(METHODS_OF["Report"]),
    "certificates.depth.Stack": lambda: {
        **{"weights": [np.eye(2)], "biases": [np.ones(2)], "residual": False, "slope": 0.1},
        **{"activation": None, "lipschitz": None, "tail": infinite.PowerLaw(1.0, 2.0)},
        **{"minorant": None, "outer": True},
    },
    "certificates.depth.Tail": lambda: {"weights": infinite.Zero(), "biases": infinite.Zero()},
    "certificates.depth.Toeplitz": lambda: {"filter": [1.0, 0.5], "width": 4},
    "certificates.depth.Zero": dict,
    **{
        f"certificates.depth.{name}": lambda: {"stack": stack(), "x": np.ones(2), "depth": 2}
        for name in ("activation_matrices", "activation_pattern", "affine_form")
    },
    "certificates.depth.certify": lambda: {
        **{"stack": stack(), "x": np.ones(2), "depth": 2, "radius": 0.1, "norm": 2},
        **{"tail": infinite.PowerLaw(1.0, 2.0), "minorant": None, "hypotheses": ()},
    },
    "certificates.depth.from_module": lambda: {
        **{"module": linears(), "input_size": None, "tail": infinite.PowerLaw(1.0, 2.0)}
    },
    "certificates.depth.from_rule": lambda: {
        **{"rule": lambda n: (np.eye(2) * (1 + 2.0**-n), None), "tail": infinite.Zero()},
        **{"minorant": None, "residual": False, "slope": 0.0, "activation": None},
        **{"lipschitz": None, "outer": True},
    },
    # -- the vocabulary of formulas
    **{f"namespace.{name}": lambda: {"x": np.ones(2)} for name in FUNCTIONS},
    "namespace.where": lambda: {"condition": np.ones(2) > 0, "a": np.ones(2), "b": np.zeros(2)},
    **{
        f"namespace.{name}": lambda: {"a": np.ones(2), "b": np.zeros(2)}
        for name in ("maximum", "minimum", "matmul")
    },
    **{
        f"namespace.{name}": lambda: {"x": np.ones((2, 2)), "axis": 0}
        for name in ("sum", "mean", "max", "min", "logsumexp", "softmax")
    },
    **{
        f"namespace.{name}": lambda: {"arrays": [np.ones(2), np.ones(2)], "axis": 0}
        for name in ("stack", "concat")
    },
    "namespace.reshape": lambda: {"x": np.ones((2, 2)), "shape": (4,)},
    "namespace.asarray": lambda: {"constant": [1.0, 2.0]},
    **{f"namespace.{name}": lambda: {"x": np.ones(2)} for name in ("zeros_like", "ones_like")},
    # -- methods
    "ControlProblem.regularisers_of": lambda: {"name": "u"},
    "Solution.control": lambda: {"name": "u"},
    "Solution.state": lambda: {"t": 0.5},
    "Solution.costate": lambda: {"t": 0.5},
    "Solution.multiplier": lambda: {"name": "end", "layer": 2, "sample": 0},
    "Solution.save": lambda: {"directory": "saved"},
    "Solution.to_module": lambda: {"head": False, "recompute": False},
    "Extension.at": lambda: {"l": 1, "s": None},
    "Extension.piecewise_constant": lambda: {"times": 0.5},
    "Extension.array": dict,
    "Extension.__call__": lambda: {"times": 0.5},
    "Study.save": lambda: {"directory": "saved_study"},
    "Study.plot": lambda: {"path": "picture.png"},
    "Study.plots": lambda: {"directory": "pictures"},
    "Study.summary": dict,
    "Study.table": dict,
    "ValueFunction.value": lambda: {"t": 0.5, "x": [0.5]},
    "ValueFunction.feedback": lambda: {"t": 0.5, "x": [0.5]},
    "ValueFunction.simulate": lambda: {"x0": [0.5]},
    "Images.first": lambda: {"train": 2, "test": 2},
    "Images.states": lambda: {"side": 2, "channels": 1},
    "Summable.tail": lambda: {"inner": 2},
    "Summable.radius": lambda: {"n": 2, "inner": 1},
    "Summable.bias_radius": lambda: {"n": 2},
    "Summable.layer": lambda: {"rng": np.random.default_rng(0), "n": 1, "width": 2, "inner": 1},
    "Summable.plain": lambda: {"width": 2, "depth": 2, "seed": 0},
    "Summable.residual": lambda: {"width": 2, "depth": 2, "inner": 1, "seed": 0},
    "Summable.initialise": lambda: {"module": linears(), "inner": 1, "seed": 0},
    "Summable.project": lambda: {"module": linears(), "inner": 1},
    "Certificate.save": lambda: {"path": "certificate.json"},
    "Certificate.table": dict,
    "Certificate.to_dict": dict,
    "MultiStart.table": dict,
    "Stack.layer": lambda: {"n": 1},
    "Stack.whole_depth": lambda: {"depth": 2},
    "Stack.__call__": lambda: {"x": np.ones(2), "depth": 2},
    "Report.depth_for": lambda: {"eps": 0.1},
    "Report.to_dict": dict,
    **{f"{kind}.at": lambda: {"k": 2} for kind in ("PowerLaw", "Geometric", "Declared")},
    **{
        f"{kind}.{name}": lambda: {"n": 2}
        for kind in ("PowerLaw", "Geometric", "Declared")
        for name in ("sum_after", "log_product_after")
    },
    "Network.as_stack": lambda: {"tail": None},
    "Network.export": dict,
    "Network.guesses": dict,
    "Network.project": dict,
    "Network.forward": lambda: {"x0": tensor(2, 1)},
    "Network.predict": lambda: {"x0": tensor(2, 1)},
    "Network.states": lambda: {"x0": tensor(2, 1)},
    "Network.to_onnx": lambda: {"path": "network.onnx", "head": False},
    "CasadiProgram.arguments": dict,
    "CasadiProgram.nlp": dict,
    "CasadiProgram.entries": lambda: {"positions": [0, 1]},
    "CasadiProgram.values": lambda: {"point": dnl.to_casadi(path(), 2).x0},
    "CasadiProgram.add": lambda: {
        **{"objective": 1.0, "rows": None, "lower": 0.0, "upper": 1.0, "name": "more"}
    },
}
