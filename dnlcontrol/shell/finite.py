"""Whether value and gradient are numbers where a check looks: at the start, at a random control."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dnlcontrol.certificates.taylor import random_control
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.results.not_finite import not_differentiable, not_finite

if TYPE_CHECKING:
    from dnlcontrol.backends.adjoint.evaluator import Evaluator


def first_not_finite(discrete: DiscreteProblem, evaluator: Evaluator, seed: int) -> str:
    """What is not finite first, with its formula, node and sample; '' where nothing is.

    Looked at are the controls' own guesses and the random control of the Taylor test.
    """
    places = {"at the start": discrete.space.initial()}
    if discrete.space.size:
        places["at a random control"] = random_control(discrete, np.random.default_rng(seed))
    with np.errstate(all="ignore"):
        for where, w in places.items():
            what = _seen(discrete, evaluator, w)
            if what:
                return f"{where}: {what}"
    return ""


def _seen(discrete: DiscreteProblem, evaluator: Evaluator, w: Flat) -> str:
    states = evaluator.states(w)
    if not np.all(np.isfinite(states)):
        return not_finite(discrete, w, states)
    value, gradient = evaluator.value_and_gradient(w)
    if not np.isfinite(value):
        return not_finite(discrete, w, states) or f"the cost is {value}: its sum overflows"
    if np.all(np.isfinite(gradient)):
        return not_finite(discrete, w, states)
    name = next(b.name for b in discrete.space if not np.all(np.isfinite(b.view(gradient))))
    why = not_finite(discrete, w, states) or not_differentiable(discrete, w, states)
    return why or f"the gradient in the control {name!r} is not finite"
