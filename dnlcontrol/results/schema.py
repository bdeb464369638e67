"""Every record that is read from a file: its fields, the words that they may be, sizes of arrays.

Fields that are not named here are of another version: any JSON value, not used. A field that came
with a later version than the record's format is optional.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from dnlcontrol.backends.found import NO_MINIMISER, SOLVED
from dnlcontrol.backends.options import (
    DTYPES,
    FORMULATIONS,
    METHODS,
    Adjoint,
    Exact,
    TorchOptimiser,
)
from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.discretisation.rules import RULES
from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.files.archive import check_shapes, stored, vector
from dnlcontrol.files.fields import (
    Field,
    Misfit,
    anything,
    block,
    block_shape,
    extended,
    flag,
    line,
    listing,
    mapping,
    nullable,
    number,
    positive,
    record,
    rising,
    text,
    whole,
    word,
)
from dnlcontrol.minimise.augmented_lagrangian import Round

FORMAT = 1
BACKENDS = (Exact.name, Adjoint.name)
DEEPEST = 2**31  # more layers have more bytes than there are addresses
MEASURES = ("value", "stationarity", "feasibility", "complementarity")

Sides = tuple[int, ...]
Shape = tuple[int | None, ...]
LOWEST = "lowest:"  # before a control's name among the arrays of what was learnt

# -- a solution ----------------------------------------------------------------------------------
GRID = record({"depth": whole(1, DEEPEST), "horizon": positive, "rule": word(RULES)}, others=None)
SOURCE = record({}, {"path": text, "parameters": nullable(mapping(anything))})
LOG = listing(line(whole(), *[number(null=True)] * 3, whole()))
LINES = listing(line(whole(), *[extended()] * 3, whole()))  # of a minimiser, infinite where it is
OPTIONS = record(
    {},
    {
        "backend": word(BACKENDS),
        "rule": word(RULES),
        "tolerance": positive,
        "formulation": word(FORMULATIONS),
        "method": word((*METHODS, TorchOptimiser.name)),
        "dtype": word(DTYPES),
        "device": text,
        "max_iterations": nullable(whole(1)),
        "max_seconds": nullable(positive),
        "chunk": nullable(whole(1)),
    },
)
SCALES = record(
    {},
    {
        "cost": positive,
        "controls": mapping(block(positive)),
        "rows": mapping(block(positive)),
        "states": nullable(block(positive)),
    },
    others=None,
)
# the digests of a problem, of options and of a start, part by part
PARTS: dict[str, Field] = dict.fromkeys(("problem", "options", "start"), mapping(anything))
SOLUTION = record(
    {
        "name": text,
        "backend": word(BACKENDS),
        **{k: number(0.0 if k != "value" else -float("inf"), null=True) for k in MEASURES},
        "status": whole(SOLVED, NO_MINIMISER),
        "message": text,
        **dict.fromkeys(("nit", "nfev", "njev", "nhev"), whole()),
        "seconds": number(0.0),
        "peak_memory_mb": number(0.0),
        "tolerance": positive,
        "grid": GRID,
        "controls": mapping(record({"on": word(("ts", "t", "const")), "at_nodes": flag})),
        "multipliers": listing(text),
        "log": LOG,
        "versions": mapping(text),
        "source": SOURCE,
        "sha256": text,
    },
    {
        "formulation": word(("", *FORMULATIONS[1:])),
        "options": OPTIONS,
        "environment": mapping(anything),
        "multiplier_nodes": mapping(line(*[listing(whole())] * 2)),
        "work": mapping(number(0.0, null=True)),
        "scales": SCALES,
        "arrays": mapping(listing(whole(1))),
        "belongs": record({}, {**PARTS, "first": whole(1, DEEPEST)}),
    },
)


def fits_record(solution: Mapping[str, Any], seen: Mapping[str, Sides]) -> None:
    """That the arrays of a solution, name -> shape, fit its record and one another.

    Raises Misfit where they do not.
    """
    grid = Grid(**solution["grid"])
    layouts = {k: Layout(grid, c["on"], c["at_nodes"]) for k, c in solution["controls"].items()}
    told = {k: tuple(sides) for k, sides in solution.get("arrays", {}).items()}
    named = [
        *("states", "costates", "terminal_gradient"),
        *(f"control:{k}" for k in layouts),
        *(f"multiplier:{k}" for k in solution["multipliers"]),
    ]
    check_shapes(seen, {k: told.get(k, seen.get(k, ())) for k in named})
    states = seen["states"]
    expected = {"states": (grid.depth + 1, *states[1:]), "costates": states}
    expected["terminal_gradient"] = states[1:]
    for k, layout in layouts.items():
        expected[f"control:{k}"] = (layout.count, *seen[f"control:{k}"][1:][:2])
    for k, (layers, samples) in solution.get("multiplier_nodes", {}).items():
        name = f"multiplier:{k}"
        expected[name] = (len(layers), len(samples), *seen.get(name, ())[2:])
    check_shapes({k: seen[k] for k in named}, {k: expected.get(k, seen[k]) for k in named})
    if not told.keys() <= set(named) or not expected.keys() <= set(named):
        raise Misfit("the list of arrays", sorted({*told, *expected}), f"{sorted(named)}")
    _check_scales(solution.get("scales", {}), seen)


def _check_scales(scales: Mapping[str, Any], seen: Mapping[str, Sides]) -> None:
    """That a scale is one number, or of the shape of what it scales."""
    scaled = {"states": (scales.get("states"), seen["states"][2:])}
    for kind, part, first in (("controls", "control", 1), ("rows", "multiplier", 2)):
        for name, scale in scales.get(kind, {}).items():
            scaled[f"{kind}[{name!r}]"] = (scale, seen.get(f"{part}:{name}", (0,) * first)[first:])
            if f"{part}:{name}" not in seen:
                raise Misfit(f"['scales']['{kind}']", name, f"the name of a {part}")
    for where, (scale, shape) in scaled.items():
        if scale is not None and block_shape(scale) not in ((), shape):
            raise Misfit(f"scales {where}", f"of shape {block_shape(scale)}", f"of shape {shape}")


def finite(arrays: Mapping[str, np.ndarray]) -> None:
    """That all numbers are finite.

    Raises Misfit where they are not.
    """
    for name, values in arrays.items():
        if not np.all(np.isfinite(values)):
            raise Misfit(f"the array {name!r}", "not finite", "of finite numbers")


def all_finite(solution: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """That its numbers are numbers; of a solve that failed at NaN the controls alone.

    Raises Misfit where they are not.
    """
    failed = solution["status"] != SOLVED and any(np.isnan(solution[k]) for k in MEASURES)
    finite({k: v for k, v in arrays.items() if k.startswith("control:") or not failed})
    for name in MEASURES:
        if solution["status"] == SOLVED and np.isnan(solution[name]):
            raise Misfit(f"[{name!r}]", None, "a number, as of every solution with status 0")


# -- a study, its problem, what its minimiser has learnt -----------------------------------------
ROW = record(
    {"depth": whole(1, DEEPEST)},
    dict.fromkeys(("value", "value_exact", "constant", "corrected"), nullable(number())),
)
STUDY = record(
    {
        "name": text,
        "depths": rising(whole(1, DEEPEST)),
        "summary": record({"levels": listing(ROW)}),
    },
    {
        "backend": word(BACKENDS),
        "orders": nullable(rising(positive)),
        "choice": text,
        "source": SOURCE,
    },
)
ABOUT: dict[str, Field] = {
    "name": text,
    "rule": word(RULES),
    "horizon": positive,
    "x0": text,
    "probe": listing(number(null=True)),
}
FINGERPRINT = record({}, {**ABOUT, **PARTS, "depths": rising(whole(1, DEEPEST))})
TABLES = {"solution": SOLUTION, "study": STUDY, "fingerprint": FINGERPRINT}


def learnt_names(space: ControlSpace, seen: Mapping[str, Sides]) -> list[str]:
    """Which of the arrays beside a solution, name -> shape, are read: an older version had others.

    Raises Misfit where they are not of these controls.
    """
    pairs = seen.get("vectors", ())[:1]
    known: dict[str, Shape] = {"scale": (space.size,), "vectors": (*pairs, space.size)}
    known["shifts"] = pairs
    known |= {f"{LOWEST}{b.name}": (b.layout.count, *b.control.shape) for b in space}
    names = [name for name in known if name in seen]
    check_shapes({k: seen[k] for k in names}, {k: known[k] for k in names})
    return names


# -- a checkpoint: what it is of, and the states of minimisers -----------------------------------
PLACE = {"depth": whole(1, DEEPEST), "method": text, "size": whole()}
SOLVE = record({}, {**ABOUT, **PARTS, **PLACE, "units": mapping(anything)})


def checkpoint_tables(size: int, rows: int) -> dict[str, Field]:
    """What a checkpoint says it is of, and the states of minimisers of so many control entries."""
    w = vector(size)
    kinds: dict[str, Field] = {"w": w, "mu": vector(rows), "rho": positive, "number": whole()}
    kinds |= dict.fromkeys(("spent", "inner"), whole())
    rounds = {f.name: kinds.get(f.name, extended(0.0)) for f in fields(Round)}
    newton = {"radius": number(0.0), "inner": whole(), "escapes": whole()}
    rates = dict.fromkeys(("quadratic_rate", "bend"), extended(0.0))
    epochs = {"w": w, "log": LINES, "lowest": extended(), "best": w, "steps": whole()}
    stages = {
        "rounds": record(rounds, others=None),
        "newton": record({"w": w}, {"log": LINES, **newton, **rates}),
        "lbfgs": record({"w": w}, {"log": LINES}),
        "epochs": record({**epochs, "moments": listing(stored)}),
    }
    return {"about": SOLVE, "stages": record({}, stages)}
