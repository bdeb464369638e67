"""What tells problems apart where files of one must not serve another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from dnlcontrol import checks
from dnlcontrol.discretisation.discrete import discretise
from dnlcontrol.problem.problem import ControlProblem


def fingerprint(problem: ControlProblem, rule: str) -> dict[str, Any]:
    """The data, and the cost and constraints at a seeded control at depth 2."""
    discrete = discretise(problem, 2, rule)
    draw = np.random.default_rng(23).standard_normal(discrete.space.size)
    w = np.clip(0.5 * draw, *discrete.space.bounds)
    with np.errstate(all="ignore"):
        x = discrete.states(w)
        probe = [
            discrete.data_cost(w, x),
            discrete.space.penalty(w),
            *np.sort(discrete.constraint_values(w, x))[:8],
        ]
    text = hashlib.sha256(problem.x0.tobytes() + repr(discrete.space.bounds).encode())
    return {
        "name": problem.name,
        "rule": rule,
        "horizon": problem.horizon,
        "x0": text.hexdigest(),
        "probe": [float(p) for p in probe],
    }


def same_problem(theirs: Mapping[str, object], mine: Mapping[str, object]) -> bool:
    """Whether two fingerprints, one perhaps read from a file (null for NaN), are of one problem.

    The probe is compared to 1e-10: versions of NumPy may round differently.
    """
    before, now = (
        checks.array_of(
            "probe",
            [np.nan if v is None else v for v in p],
            "a fingerprint written by this library",
        )
        for p in cast("list[list[float | None]]", [theirs.get("probe") or [], mine["probe"]])
    )
    same = all(theirs.get(k) == mine[k] for k in ("name", "rule", "horizon", "x0"))
    return (
        same
        and before.shape == now.shape
        and bool(np.allclose(before, now, rtol=1e-10, equal_nan=True))
    )
