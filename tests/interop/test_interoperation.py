"""What leaves the library: the program in CasADi, the condensed cost in C, labelled arrays."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import casadi as ca
import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from problems.two_class_toy import problem as two_class_toy

QUIET = {
    "ipopt.print_level": 0,
    "ipopt.sb": "yes",
    "print_time": False,
    "ipopt.tol": 1e-10,
    "ipopt.bound_relax_factor": 0.0,
}


def van_der_pol() -> dnl.ControlProblem:
    """One-step rows, bounds on controls and states, one constraint of every other kind."""

    def f(t, x, u):
        x1, x2 = x
        return dnl.namespace(x).stack([x2, (1 - x1**2) * x2 - x1 + u.u])

    return dnl.ControlProblem(
        name="van_der_pol",
        x0=np.array([[0.6, 0.0], [0.3, 0.2]]),
        dynamics=dnl.ODE(f),
        controls={"u": dnl.Control((), lower=-1.0, upper=0.8)},
        running=lambda t, x, u: x[0] ** 2 + x[1] ** 2,
        regularisers=[dnl.H1("u", 0.05)],
        constraints=[  # at the solution the first and the third are active
            dnl.state_bounds(lower=-0.35, name="bound"),
            dnl.terminal_constraint(lambda x, c: x[0] + x[1], lower=0.1, name="end"),
            dnl.integral_constraint(lambda t, x, u: u.u**2, upper=0.1, name="effort"),
            dnl.path_constraint(
                lambda t, x, u: dnl.namespace(x).stack([u.u - x[0], u.u + x[0]]),
                upper=2.0,
                name="cone",
            ),
        ],
    )


def tokens() -> dnl.ControlProblem:
    """States and controls of rank 2, a constant, a path control.

    The outer map reads the path control at the nodes.
    """
    x0 = np.random.default_rng(4).standard_normal((2, 3, 2))
    return dnl.ControlProblem(
        name="tokens",
        x0=x0,
        dynamics=dnl.Volterra(
            lambda t, s, y, u: dnl.tanh(y @ u.W) * u.c,
            feature=lambda s, x, u: 2 * x,
            outer=lambda t, g, z, u: g + z + u.v,
        ),
        controls={
            "W": dnl.Control((2, 2), on="ts", initial=0.1),
            "v": dnl.Control((2,), on="t"),
            "c": dnl.Control((), on="const", initial=0.7),
        },
        terminal=dnl.losses.squared(np.zeros((2, 3, 2))),
        regularisers=[dnl.H1("W", 0.1), dnl.H1("v", 0.1), dnl.L2("c", 0.1)],
    )


PROBLEMS = {
    "toy": (lambda: two_class_toy(samples=4), 3),
    "van der Pol": (van_der_pol, 6),
    "tokens": (tokens, 3),
}
every_problem = pytest.mark.parametrize(("make", "depth"), PROBLEMS.values(), ids=PROBLEMS.keys())


def solved(program: dnl.CasadiProgram) -> dict:
    solver = ca.nlpsol("solver", "ipopt", program.nlp(), QUIET)
    result = solver(**program.arguments())
    assert solver.stats()["success"]
    return result


def functions_of(program: dnl.CasadiProgram):
    f = ca.Function("f", [program.variables], [program.objective, program.constraints])
    return lambda z: [np.array(v).ravel() for v in f(z)]


# -- the program ---------------------------------------------------------------------------------
@every_problem
def test_the_entries_are_where_the_program_says(make, depth):
    """Random controls with their states: cost, rows and constraints against the sweep, by name."""
    problem = make()
    discrete = dnl.discretise(problem, depth)
    evaluator, program = Evaluator(discrete), dnl.to_casadi(problem, depth)
    w = 0.5 * np.random.default_rng(7).standard_normal(discrete.space.size)
    x = evaluator.states(w)
    z = np.full(program.variables.numel(), np.nan)
    for block in discrete.space:
        assert program.controls[block.name].shape == (block.layout.count, *block.control.shape)
        z[program.controls[block.name]] = block.values(w)
    assert program.states.shape == x.shape == program.equations.shape
    z[program.states] = x
    objective, g = functions_of(program)(z)
    assert objective[0] == pytest.approx(evaluator.value(w), rel=1e-12)
    assert np.abs(g[program.equations]).max() < 1e-13
    expected = discrete.rows.by_name(evaluator.constraint_values(w))
    for name, index in program.rows.items():
        assert index.shape == expected[name].shape
        assert np.allclose(g[index], expected[name], rtol=1e-12, atol=1e-13)
    assert set(expected) - set(program.rows) == ({"bound"} if "bound" in expected else set())
    covered = np.concatenate(
        [program.equations.ravel(), *(index.ravel() for index in program.rows.values())]
    )
    assert sorted(covered) == list(range(program.constraints.numel()))
    controls, states = program.values(z)
    assert np.array_equal(states, x)
    assert all(np.array_equal(controls[b.name], b.values(w)) for b in discrete.space)


@every_problem
def test_the_starting_point_is_the_initial_guess_with_its_states(make, depth):
    problem = make()
    program = dnl.to_casadi(problem, depth)
    controls, states = program.values(program.x0)
    assert np.allclose(states, dnl.simulate(problem, depth), rtol=0, atol=1e-14)
    space = dnl.discretise(problem, depth).space
    assert np.array_equal(space.assemble(controls), space.initial())


@every_problem
def test_unchanged_the_program_has_the_solution_of_solve(make, depth):
    problem = make()
    program = dnl.to_casadi(problem, depth)
    result = solved(program)
    controls, states = program.values(result["x"])
    # From there: with several minimisers another way may lead to another one.
    own = dnl.solve(problem, depth, backend="exact", start=controls)
    assert own.success
    assert float(result["f"]) == pytest.approx(own.value, abs=1e-8)
    for name, values in controls.items():
        assert np.allclose(values, own.controls[name].values, atol=2e-4)
    assert np.allclose(states, own.states, atol=1e-4)


def test_multipliers_of_the_rows_are_the_costates():
    problem = van_der_pol()
    program = dnl.to_casadi(problem, 6)
    result, own = solved(program), dnl.solve(problem, 6, backend="exact")
    assert program.one_step
    lam = np.array(result["lam_g"]).ravel()
    assert np.allclose(-problem.samples * lam[program.equations], own.costates, atol=1e-5)
    assert own.multipliers["effort"] > 1
    for name in ("end", "effort", "cone"):
        assert np.allclose(lam[program.rows[name]], own.multipliers[name], atol=1e-5)


def test_an_added_term_and_added_rows_take_part():
    """Against the same term and constraint written into the problem."""
    problem = two_class_toy(samples=4)
    program = dnl.to_casadi(problem, 3)
    last = program.states[-1]
    spread = ca.sumsqr(program.entries(last[:, 1])) / problem.samples
    program = program.add(objective=spread).add(
        rows=program.entries(last[1:2, 0]), lower=-np.inf, upper=0.5, name="limit"
    )
    result = solved(program)
    target = np.where(np.arange(4) % 2 == 0, -1.0, 1.0)
    whole = dnl.ControlProblem(
        x0=problem.x0,
        dynamics=problem.dynamics,
        controls=problem.controls,
        terminal=dnl.cost(lambda x, c, y: (x[0] - y) ** 2 + x[1] ** 2, target=target),
        regularisers=problem.regularisers,
        constraints=[
            dnl.terminal_constraint(lambda x, c: x[0], upper=0.5, name="limit", samples=[1])
        ],
    )
    own = dnl.solve(whole, 3, backend="exact")
    assert own.success
    assert float(result["f"]) == pytest.approx(own.value, abs=1e-8)
    assert float(result["f"]) > dnl.solve(problem, 3, backend="exact").value + 1e-3
    lam = np.array(result["lam_g"]).ravel()
    assert lam[program.rows["limit"]] == pytest.approx(own.multipliers["limit"].ravel(), abs=1e-5)
    assert program.values(result["x"])[1][-1, 1, 0] == pytest.approx(0.5, abs=1e-7)


def test_the_solution_of_a_changed_program_starts_a_solve():
    problem = two_class_toy(samples=4)
    program = dnl.to_casadi(problem, 3)
    controls, _ = program.values(solved(program)["x"])
    again = dnl.solve(problem, 3, backend="adjoint", start=controls)
    assert again.success
    assert again.nit <= 1 < dnl.solve(problem, 3, backend="adjoint").nit


def test_adding_leaves_the_program_as_it_was_and_says_what_is_wrong():
    program = dnl.to_casadi(two_class_toy(samples=4), 2)
    sizes = program.constraints.numel(), program.lbg.size
    more = program.add(rows=program.entries([0, 1]), name="two")
    assert (program.constraints.numel(), program.lbg.size) == sizes
    assert "two" not in program.rows
    assert more.rows["two"].tolist() == [sizes[0], sizes[0] + 1]
    for wrong, says in (
        (lambda: more.add(rows=program.entries(0), name="two"), "name: got 'two'"),
        (
            lambda: program.add(objective=program.entries([0, 1])),
            "objective: got an expression of shape",
        ),
        (lambda: program.add(rows=program.entries([0, 1]), upper=[1, 2, 3]), "lower, upper"),
        (lambda: program.entries(10**6), "positions"),
        (lambda: program.entries("W"), "positions"),
        (lambda: program.values(np.zeros(3)), "point: got 3 entries"),
    ):
        with pytest.raises(dnl.InputError, match=re.escape(says)):
            wrong()


# -- C -------------------------------------------------------------------------------------------
def in_c(
    name: str, library: ctypes.CDLL, arguments: list[np.ndarray], sizes: list[int]
) -> list[np.ndarray]:
    """Call a generated function as a C program would, without CasADi."""
    counts = [ctypes.c_longlong() for _ in range(4)]
    getattr(library, f"{name}_work")(*map(ctypes.byref, counts))
    n_arg, n_res, n_iw, n_w = (c.value for c in counts)
    real = ctypes.POINTER(ctypes.c_double)
    results = [np.empty(n) for n in sizes]
    arg, res = (real * max(n_arg, 1))(), (real * max(n_res, 1))()
    for pointers, arrays in ((arg, arguments), (res, results)):
        for i, array in enumerate(arrays):
            pointers[i] = array.ctypes.data_as(real)
    iw, work = (ctypes.c_longlong * max(n_iw, 1))(), (ctypes.c_double * max(n_w, 1))()
    assert getattr(library, name)(arg, res, iw, work, 0) == 0
    return results


@pytest.mark.parametrize("rule", ["left", "trapezoid"])
@every_problem
def test_the_c_code_is_the_cost_and_its_gradient(make, depth, rule, tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler cc on this machine")
    problem = make()
    file = dnl.export_c(problem, depth, tmp_path / "network.c", rule)
    assert file == tmp_path / "network.c"
    assert (tmp_path / "network.h").is_file()
    binary = tmp_path / "network.so"
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", str(file), "-o", str(binary), "-lm"], check=True
    )
    library = ctypes.CDLL(str(binary))
    evaluator = Evaluator(dnl.discretise(problem, depth, rule))
    size = evaluator.space.size
    for seed in range(3):
        # larger ones leave implicit layers without a root
        w = 0.5 * np.random.default_rng(seed).standard_normal(size)
        value, gradient = evaluator.value_and_gradient(w)
        (alone,) = in_c("network_value", library, [w], [1])
        both, slope = in_c("network_gradient", library, [w], [1, size])
        assert alone[0] == pytest.approx(value, rel=1e-12)
        assert both[0] == alone[0]
        assert np.abs(slope - gradient).max() <= 1e-12 * np.abs(gradient).max()


def test_the_c_code_of_a_layer_without_a_root_says_so(tmp_path):
    """x = 1 + ½ (8·1 + u_0 + 8 x² + u_1) has no real root for u = 0, and two for u = -12."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler cc on this machine")
    problem = dnl.ControlProblem(
        x0=np.ones((1, 1)),
        dynamics=dnl.ODE(lambda t, x, u: 8 * x * x + u.u),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: x[0],
    )
    file, binary = (
        dnl.export_c(problem, 1, tmp_path / "network.c", "trapezoid"),
        tmp_path / "network.so",
    )
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", str(file), "-o", str(binary), "-lm"], check=True
    )
    library = ctypes.CDLL(str(binary))
    assert all(np.isnan(a).any() for a in in_c("network_gradient", library, [np.zeros(2)], [1, 2]))
    evaluator, w = Evaluator(dnl.discretise(problem, 1, "trapezoid")), np.full(2, -12.0)
    (value,) = in_c("network_value", library, [w], [1])
    assert value[0] == pytest.approx(evaluator.value(w), rel=1e-12)


def test_the_c_code_of_large_states(tmp_path):
    """A residual of 1e-7 is the rounding of a state of 1e9.

    x^l = x^{l-1} (1 - 0.15 τ) / (1 + 0.15 τ).
    """
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler cc on this machine")
    problem = dnl.ControlProblem(
        x0=np.full((1, 1), 1e9),
        dynamics=dnl.ODE(lambda t, x, u: u.u - 0.3 * x),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: x[0],
    )
    file, binary = (
        dnl.export_c(problem, 3, tmp_path / "network.c", "trapezoid"),
        tmp_path / "network.so",
    )
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", str(file), "-o", str(binary), "-lm"], check=True
    )
    (value,) = in_c("network_value", ctypes.CDLL(str(binary)), [np.zeros(4)], [1])
    assert value[0] == pytest.approx(1e9 * ((1 - 0.05) / (1 + 0.05)) ** 3, rel=1e-13)


@pytest.mark.parametrize("path", ["network.txt", "2nd.c", "my-net.c", "nowhere/network.c", None, 3])
def test_a_bad_path_is_refused(path, tmp_path):
    with pytest.raises(dnl.InputError, match="path: got"):
        dnl.export_c(
            two_class_toy(samples=2), 1, tmp_path / path if isinstance(path, str) else path
        )


# -- labelled arrays -----------------------------------------------------------------------------
def test_named_dimensions():
    xarray = pytest.importorskip("xarray", reason="needs xarray: pip install dnlcontrol[xarray]")
    solution = dnl.solve(tokens(), 3, backend="adjoint")
    data = dnl.to_xarray(solution)
    assert isinstance(data, xarray.Dataset)
    assert data["state"].dims == ("node", "sample", "state_0", "state_1")
    assert data["W"].dims == ("layer", "source", "W_0", "W_1")
    assert data["v"].dims == ("node", "v_0")
    assert data["c"].dims == ()
    for l in range(1, 4):
        for s in range(l):
            cell = data["W"].sel(layer=l).isel(source=s)
            assert np.array_equal(cell.values, solution.controls["W"].at(l, s))
            assert np.allclose(
                solution.control("W")(cell["t_layer"], cell["s_source"]), cell.values
            )
    assert np.isnan(data["W"].sel(layer=1).isel(source=1)).all()
    assert data.attrs["value"] == solution.value
    assert data.attrs["success"] == 1
    assert np.array_equal(data["t_node"], solution.grid.nodes)


def test_without_xarray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match=r"dnlcontrol\[xarray\]"):
        dnl.to_xarray(SimpleNamespace())
