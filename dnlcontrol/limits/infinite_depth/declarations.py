"""What is declared about the layers beyond the known ones, against layers of a rule.

A contradiction is an error. A finite stack has nothing to compare, only its declarations with one
another (see ``contradictions``). Of a rule a few layers are looked at, which contradicts or does
not; agreement proves nothing, and the report says how many were seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.limits.infinite_depth.hypotheses import Contraction, Decay, NonnegativeTail
from dnlcontrol.limits.infinite_depth.majorants import Bound, Tail
from dnlcontrol.limits.infinite_depth.operators import Matrix
from dnlcontrol.limits.infinite_depth.path import Path
from dnlcontrol.limits.infinite_depth.rounding import matrix_norm, vector_norm
from dnlcontrol.limits.infinite_depth.stacks import Block, Layer, Stack

# layers n + i of a rule that are compared with declarations
PROBES = (*range(1, 9), *(2**j for j in range(4, 13)))
# a probe contradicts a declaration only beyond this relative difference: norms are rounded up
SLACK = 1e-9
POINTS = 8  # states at which a branch is tried


@dataclass(frozen=True, eq=False)
class Case:
    """What is to be decided.

    The stack known to layer n, what is declared beyond, the evaluation at x if any.
    """

    stack: Stack
    n: int
    norm: float
    tail: Tail
    minorant: Tail
    given: dict[type, Any]
    path: Path | None

    @property
    def growth(self) -> Tail:
        """Minorants of ‖A_k‖ and ‖c_k‖, the increment of a non-negative state.

        See NonnegativeTail.
        """
        declared: NonnegativeTail = self.given.get(NonnegativeTail, NonnegativeTail())
        own = Tail() if self.stack.residual else self.minorant
        return Tail(declared.increments or own.weights, declared.shifts or own.biases)

    @property
    def probes(self) -> list[int]:
        return [self.n + i for i in PROBES]

    @cached_property
    def inner(self) -> frozenset[int]:
        """The numbers M of inner layers beyond the known layers, 0 of a plain layer.

        Those of the rule's probed layers, or that of the last known block, which a finite stack is
        taken to go on with.
        """
        if self.stack.depth is None:
            layers = [self.stack.layer(k) for k in self.probes]
            return frozenset(
                len(layer.inner) if isinstance(layer, Block) else 0 for layer in layers
            )
        known = (self.stack.layer(k) for k in range(self.n, 0, -1))
        return frozenset(
            [next((len(layer.inner) for layer in known if isinstance(layer, Block)), 0)]
        )


def check_declarations(case: Case) -> int:
    """Compare what is declared with layers of a rule beyond n; the number of layers looked at."""
    tail, minorant = case.tail, case.minorant
    if case.stack.depth is not None:
        return 0
    for k in case.probes:
        layer = case.stack.layer(k)
        p, beta = layer.perturbation(case.norm), layer.bias(case.norm)
        _bounded("tail.weights", k, p, tail.weights, above=True)
        _bounded("tail.biases", k, beta, tail.biases, above=True)
        _bounded("minorant.weights", k, p, minorant.weights, above=False)
        _bounded("minorant.biases", k, beta, minorant.biases, above=False)
        if NonnegativeTail in case.given:
            _check_growth(case, k, layer)
        if Decay in case.given:
            _check_decay(case, k, layer, case.given[Decay].gaps.at(k))
        if Contraction in case.given:
            _check_limit(case, k, layer, case.given[Contraction])
    return len(PROBES)


def _bounded(name: str, k: int, seen: float, bound: Bound | None, above: bool) -> None:
    if bound is None:
        return
    m = bound.at(k)
    if seen > m * (1 + SLACK) + 1e-14 if above else seen < m * (1 - SLACK) - 1e-14:
        allowed = f"at {'most' if above else 'least'} {m:.6g}, as declared"
        checks.reject(f"{name} at layer {k}", f"{seen:.6g} in the layer", allowed)


def _check_growth(case: Case, k: int, layer: Layer | Block) -> None:
    name = f"NonnegativeTail at layer {k}"
    if layer.rows != layer.columns:
        checks.reject(name, f"{layer.columns} -> {layer.rows}", "a width that stays")
    if isinstance(layer, Layer):
        increment, shift = layer.weight.matrix() - np.eye(layer.rows), layer.shift
        least, what = min(increment.min(), shift.min()), "W - I or b"
    else:
        increment, shift = layer.increment()
        least = min(min(part.weight.matrix().min(), part.shift.min()) for part in layer.inner)
        what = "an inner W or b"
    if least < 0:
        checks.reject(name, f"a negative entry of {what}", "none")
    declared: NonnegativeTail = case.given[NonnegativeTail]
    _bounded(
        "NonnegativeTail.increments",
        k,
        matrix_norm(increment, case.norm),
        declared.increments,
        above=False,
    )
    _bounded(
        "NonnegativeTail.shifts", k, vector_norm(shift, case.norm), declared.shifts, above=False
    )


def _check_decay(case: Case, k: int, layer: Layer | Block, gap: float) -> None:
    allowed = f"at most 1 - {gap:.6g}"
    states_only = case.stack.residual  # there only states are declared, x >= 0 for ReLU
    if (
        not states_only and isinstance(layer, Layer) and isinstance(layer.weight, Matrix)
    ):  # of other maps only bounds of ‖W‖ are known
        if layer.weight.norm(case.norm) > (1 - gap) + SLACK:
            checks.reject(
                f"Decay at layer {k}", f"‖W‖ = {layer.weight.norm(case.norm):.6g}", allowed
            )
        return
    states = np.random.default_rng(k).standard_normal((POINTS, layer.columns))
    states = np.abs(states) if case.stack.activation.slope == 0 else states
    for x in (*states, *(1e6 * states)):  # small ones see the bias, large ones the slope
        size = vector_norm(x, case.norm)
        most = (1 - gap) * size + layer.bias(case.norm) + SLACK * size
        if vector_norm(layer.before(x, case.stack.activation), case.norm) > most:
            checks.reject(
                f"Decay at layer {k}",
                f"a state that grows to more than (1 - d)‖x‖ + β, d = {gap:.6g}",
                "none",
            )


def _check_limit(case: Case, k: int, layer: Layer | Block, limit: Contraction) -> None:
    plain = layer if isinstance(layer, Layer) else layer.as_plain()
    if plain is None:
        checks.reject(
            "hypotheses",
            f"Contraction, and a block with more inner layers at layer {k}",
            "one inner layer",
        )
    if (plain.rows, plain.columns) != (limit.operator.rows, limit.operator.columns):
        seen = f"{plain.columns} -> {plain.rows}"
        checks.reject(
            f"Contraction.weight at layer {k}", seen, f"the width {limit.operator.rows} of W"
        )
    drift = vector_norm(plain.shift - limit.bias, case.norm)
    if drift > limit.biases.at(k) * (1 + SLACK) + 1e-14:
        checks.reject(
            f"Contraction.biases at layer {k}",
            f"‖b_k - b‖ = {drift:.6g}",
            f"{limit.biases.at(k):.6g}",
        )
    difference = plain.weight.matrix() - limit.operator.matrix()
    # a lower bound of the norm
    if np.abs(difference).max() > limit.weights.at(k) * (1 + SLACK) + 1e-14:
        checks.reject(
            f"Contraction.weights at layer {k}", "‖W_k - W‖ larger", f"{limit.weights.at(k):.6g}"
        )
