"""The discrete problem as a CasADi program to build on, and its condensed cost as C code."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import casadi as ca
import numpy as np
import numpy.typing as npt

from dnlcontrol import checks
from dnlcontrol.backends.exact.lifted.transcription import Transcription
from dnlcontrol.discretisation.discrete import discretise
from dnlcontrol.files.atomic import write_together
from dnlcontrol.files.turns import in_turn
from dnlcontrol.problem.problem import ControlProblem

# Newton's method in generated C: it ends with a step below 1e-9, whose successor would be of the
# size of its square, or after 50 steps without a word: a residual above STAGE_RESIDUAL (1 + |x|)
# tells
STAGE_OPTIONS = {"abstol": 0.0, "abstolStep": 1e-9, "max_iter": 50}
STAGE_RESIDUAL = 1e-8


@dataclass(frozen=True, eq=False)
class CasadiProgram:
    """The lifted discrete problem as a nonlinear program in z = (w, x).

    It is min f(z) subject to lbx <= z <= ubx, lbg <= g(z) <= ubg, with

        f  J_L, penalties included
        g  the state equation (right side 0), then every constraint but the state bounds,
           then rows added by the user

    Attributes
    ----------
    variables : z, an SX column: the controls w in the order of the control space, then the states.
    objective, constraints : f (1×1) and g (a column), SX expressions in ``variables``.
    lbx, ubx, lbg, ubg, x0 : NumPy vectors; control bounds and state bounds are bounds on z, x0 the
        initial guesses of the controls with their states.
    controls : name -> positions in z, integers (sites, *shape), sites as in
        ``solution.controls[name].values``.
    states : positions in z, (L+1, N, *state shape).
    equations : positions in g of the state equation, (L+1, N, *state shape).
    rows : constraint name -> positions in g, (layers, samples, *shape); names of added rows with
        theirs.
    one_step : the rows are x^{l+1} - x^l - τ k = 0 (an ODE) instead of x^l - G(...) = 0: their
        -lam_g is ψ^l/N instead of λ^l, so that an ODE's costates per sample are -N lam_g.

    All quantities are in the problem's own units. Formulas and cost are traced from the same
    functions that :func:`dnlcontrol.solve` runs on.
    """

    variables: ca.SX
    objective: ca.SX
    constraints: ca.SX
    lbx: np.ndarray
    ubx: np.ndarray
    lbg: np.ndarray
    ubg: np.ndarray
    x0: np.ndarray
    controls: Mapping[str, np.ndarray]
    states: np.ndarray
    equations: np.ndarray
    rows: Mapping[str, np.ndarray]
    one_step: bool

    def entries(self, positions: npt.ArrayLike) -> ca.SX:
        """The variables at these positions, an SX column in row-major order.

        Raises
        ------
        InputError : positions that are not integers from 0 to the number of variables - 1.
        """
        index = np.atleast_1d(np.asarray(positions))
        if index.dtype.kind not in "iu":
            checks.reject_type(
                "positions",
                positions,
                "integers such as program.controls[name] or program.states[-1]",
            )
        if index.size and not (index.min() >= 0 and index.max() < self.variables.numel()):
            checks.reject("positions", index, f"integers from 0 to {self.variables.numel() - 1}")
        return self.variables[index.ravel().tolist()]

    def add(
        self,
        objective: ca.SX | float = 0.0,
        rows: ca.SX | None = None,
        lower: npt.ArrayLike = 0.0,
        upper: npt.ArrayLike = 0.0,
        name: str = "added",
    ) -> CasadiProgram:
        """A program with ``objective`` added to f and lower <= rows <= upper added to g.

        ``rows`` (any shape) become equalities with 0 by default; ``lower`` and ``upper`` are
        numbers or vectors of their length.

        Raises
        ------
        InputError : an objective that is not 1×1, bounds of another length, a name in use.
        """
        term = ca.SX(objective)
        if term.numel() != 1:
            checks.reject("objective", f"an expression of shape {term.shape}", "a 1×1 expression")
        program = replace(self, objective=self.objective + term)
        if rows is None:
            return program
        if name in self.rows:
            checks.reject("name", name, f"a name other than {', '.join(sorted(self.rows))}")
        column = ca.vec(ca.SX(rows))
        try:
            low, high = (
                np.broadcast_to(np.asarray(b, dtype=float), (column.numel(),))
                for b in (lower, upper)
            )
        except (ValueError, TypeError):
            checks.reject(
                "lower, upper", (lower, upper), f"numbers or vectors of length {column.numel()}"
            )
        count = self.constraints.numel()
        return replace(
            program,
            constraints=ca.vertcat(self.constraints, column),
            lbg=np.concatenate([self.lbg, low]),
            ubg=np.concatenate([self.ubg, high]),
            rows={**self.rows, name: count + np.arange(column.numel())},
        )

    def nlp(self) -> dict[str, Any]:
        """The first part of ``casadi.nlpsol(name, solver, program.nlp(), options)``."""
        return {"x": self.variables, "f": self.objective, "g": self.constraints}

    def arguments(self) -> dict[str, np.ndarray]:
        """What the solver is called with: ``solver(**program.arguments())``."""
        return {"x0": self.x0, "lbx": self.lbx, "ubx": self.ubx, "lbg": self.lbg, "ubg": self.ubg}

    def values(self, point: ca.DM | npt.ArrayLike) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Controls by name (sites, *shape) and states (L+1, N, *state shape) at a point z.

        The point may be ``result["x"]``. The mapping of controls serves as ``start`` of
        :func:`dnlcontrol.solve`.

        Raises
        ------
        InputError : a point with another number of entries.
        """
        z = np.asarray(point, dtype=float).ravel()
        if z.size != self.variables.numel():
            checks.reject("point", f"{z.size} entries", f"{self.variables.numel()} entries")
        return {name: z[index] for name, index in self.controls.items()}, z[self.states]


@in_turn
def to_casadi(problem: ControlProblem, depth: int, rule: str = "left") -> CasadiProgram:
    """The lifted nonlinear program of a problem at one depth.

    To add terms to and to give to any ``nlpsol``. IPOPT by default lets bounds be
    passed by 1e-8 of their size: ``ipopt.bound_relax_factor`` = 0 makes it keep them.

    >>> import casadi, numpy as np, dnlcontrol as dnl
    >>> problem = dnl.ControlProblem(
    ...     x0=np.ones(1),
    ...     dynamics=dnl.ODE(lambda t, x, u: u.u),
    ...     controls={"u": dnl.Control(())},
    ...     terminal=lambda x, c: 0.5 * x**2,
    ...     regularisers=[dnl.L2("u", 1.0)],
    ... )
    >>> program = dnl.to_casadi(problem, depth=4)
    >>> first = program.entries(program.controls["u"][0])
    >>> program = program.add(
    ...     objective=first**2, rows=program.entries(program.states[-1]), upper=1.0, name="end"
    ... )
    >>> quiet = {"ipopt.print_level": 0, "ipopt.sb": "yes", "print_time": False}
    >>> result = casadi.nlpsol("solver", "ipopt", program.nlp(), quiet)(**program.arguments())
    >>> controls, states = program.values(result["x"])
    >>> controls["u"].shape, states.shape
    ((4,), (5, 1))
    """
    from dnlcontrol.backends.adjoint.evaluator import Evaluator

    discrete = discretise(problem, depth, rule)
    t = Transcription(discrete)
    space, shape = discrete.space, (depth + 1, problem.samples, *problem.state_shape)
    w = space.initial()
    states = np.arange(t.x.numel()).reshape(shape)
    (lower, upper) = space.bounds
    (low, high) = t.sides.states
    (c_low, c_high) = t.sides.rows
    equal = np.zeros(t.x.numel())
    rows, start = {}, t.x.numel()
    for block in discrete.rows.blocks:
        if block.formula is not None:
            rows[block.constraint.name] = start + np.arange(block.size).reshape(block.full_shape)
            start += block.size
    return CasadiProgram(
        variables=ca.vertcat(t.w, ca.vec(t.x)),
        objective=t.objective,
        constraints=ca.vertcat(ca.vec(t.rows), t.constraints),
        lbx=np.concatenate([lower, low]),
        ubx=np.concatenate([upper, high]),
        lbg=np.concatenate([equal, c_low]),
        ubg=np.concatenate([equal, c_high]),
        x0=np.concatenate([w, Evaluator(discrete).states(w).ravel()]),
        controls={b.name: b.values(np.arange(space.size)) for b in space},
        states=space.size + states,
        equations=states,
        rows=rows,
        one_step=t.one_step,
    )


@in_turn
def export_c(
    problem: ControlProblem, depth: int, path: str | os.PathLike[str], rule: str = "left"
) -> Path:
    """Write J_L(w), states eliminated, and its gradient as C functions.

    They need nothing but the C library. ``name.c`` and ``name.h`` define, with the calling
    convention of CasADi's generated code (``int f(const double** arg, double** res, long long int*
    iw, double* w, int mem)``, sizes from ``f_work``):

        name_value      arg[0] = w          res[0] = J_L
        name_gradient   arg[0] = w          res[0] = J_L,  res[1] = dJ_L/dw

    w has ``discretise(problem, depth).space.size`` entries, ordered as ``to_casadi(...).controls``
    tells. Constraints are not part of it. The code holds one line for every elementary operation,
    O(L² N) of them for kernels with memory: it is for small networks. Implicit layers
    (``rule="trapezoid"``) are solved by Newton's method from the layer before; where it does not
    settle the results are NaN. To compile: ``cc -O1 -shared -fPIC name.c -o libname.so -lm``.

    Parameters
    ----------
    path : where to write, ``….c``; the name must be a C identifier. An existing file is replaced.

    Returns
    -------
    The path of the C file.

    Raises
    ------
    InputError : a path whose name is not that of a C file, or whose directory does not exist.
    """
    file = _c_file(path)
    t = Transcription(discretise(problem, depth, rule))
    # SX or MX: the stubs know functions of either, not of both
    w: Any
    x: Any
    w, x = _solved(t) if t.discrete.grid.implicit else (t.w, _forward(t))
    # A call of a Function inserts its operations: the states disappear from the expression.
    value = ca.Function("objective", [t.w, t.x], [t.objective])(w, x)
    gradient = ca.densify(ca.gradient(value, w))
    code = ca.CodeGenerator(file.name, {"with_header": True})
    code.add(ca.Function(f"{file.stem}_value", [w], [value], ["w"], ["value"]))
    code.add(
        ca.Function(f"{file.stem}_gradient", [w], [value, gradient], ["w"], ["value", "gradient"])
    )
    with tempfile.TemporaryDirectory() as folder:
        code.generate(f"{folder}{os.sep}")
        written = [file.with_suffix(".h"), file]
        write_together({path: (Path(folder) / path.name).read_bytes() for path in written})
    return file


def _c_file(path: str | os.PathLike[str]) -> Path:
    try:
        file = Path(path)
    except TypeError:
        checks.reject_type("path", path, "the path of a .c file")
    if file.suffix != ".c" or not (file.stem.isidentifier() and file.stem.isascii()):
        checks.reject(
            "path",
            str(path),
            "the path of a .c file whose name is a C identifier, such as network.c",
        )
    if not file.parent.is_dir():
        checks.reject("path", f"{path} (no such directory)", "a path in an existing directory")
    return file


def _forward(t: Transcription) -> ca.SX:
    """The states as expressions of w, (entries, (L+1) N).

    Row l is x^l - r(w, x^0..x^{l-1}), so that r is -row at x^l = 0.
    """
    columns, rows = (ca.horzsplit(m, t.samples) for m in (t.x, t.rows))
    states: list[ca.SX] = []
    for l, row in enumerate(rows):
        own = columns[l]
        step = ca.Function("row", [t.w, *columns[: l + 1]], [-row])
        states.append(step(t.w, *states, ca.SX.zeros(*own.shape)))
    return ca.horzcat(*states)


def _solved(t: Transcription) -> tuple[ca.MX, ca.MX]:
    """w and the states as expressions of it, with a solver in the place of every implicit row."""
    columns, rows = (ca.horzsplit(m, t.samples) for m in (t.x, t.rows))
    w = ca.MX.sym("w", t.w.numel())
    states: list[ca.MX] = []
    for l, (column, row) in enumerate(zip(columns, rows, strict=True)):
        unknown = ca.SX.sym("unknown", column.numel())
        known = ca.vertcat(t.w, *map(ca.vec, columns[:l]))
        residual = ca.substitute(ca.vec(row), ca.vec(column), unknown)
        stage = ca.rootfinder(
            "stage", "fast_newton", {"x": unknown, "p": known, "g": residual}, STAGE_OPTIONS
        )
        guess = states[-1] if states else ca.MX.zeros(column.numel())
        given = ca.vertcat(w, *states)
        x = stage(x0=guess, p=given)["x"]
        left = ca.norm_inf(ca.Function("residual", [unknown, known], [residual])(x, given))
        states.append(
            x * (1 + ca.log(1 - 2 * ca.logic_not(left <= STAGE_RESIDUAL * (1 + ca.norm_inf(x)))))
        )  # log 1 = 0, log(-1) is NaN
    shape = columns[0].shape
    return w, ca.horzcat(*(ca.reshape(x, *shape) for x in states))
