"""Problems under every kind of constraint."""

from __future__ import annotations

import dnlcontrol as dnl

CONSTRAINTS = [
    dnl.path_constraint(lambda t, x, u: t * dnl.namespace(x).sum(x * x), -1, 1, name="path"),
    dnl.integral_constraint(
        lambda t, x, u: dnl.namespace(x).sum(x) ** 2 + t, -1, 1, name="integral"
    ),
    dnl.terminal_constraint(
        lambda x, c: dnl.namespace(x).sum(x * x * x), -1, 1, name="terminal", samples=[0]
    ),
    dnl.state_bounds(-5, 5, name="states"),
]


def constrained(problem: dnl.ControlProblem) -> dnl.ControlProblem:
    """The same problem with every kind of constraint."""
    own = {"dynamics", "terminal", "running", "controls", "regularisers", "x0", "horizon", "name"}
    return dnl.ControlProblem(**{k: getattr(problem, k) for k in own}, constraints=CONSTRAINTS)
