"""Is the forecast of sizes right? Solves in processes of their own against what was foretold.

Each setting (a problem, a depth, a way to solve) is solved in a child process that has solved the
same problem at depth 4 before: measured are the growth of its largest resident size and its
processor seconds. Printed are forecast and measurement with their ratio, and how many ratios lie
within 25% for memory (above 20 MB) and within a factor of 2 for seconds.

    python benchmarks/18_forecast.py [--tiny] [--fit] [--only NAME,NAME] [--keep FILE]

--fit prints the constants that these measurements give, as
dnlcontrol/discretisation/resources/fitted.py has them: non-negative least squares of the ratios,
for each route. The settings marked "held" are left out of the fit. --keep: measurements are
kept there, and those that it has are not made again.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import dnlcontrol as dnl
from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.discretisation.resources.counts import Structure
from dnlcontrol.discretisation.resources.fitted import MEMORY, PRODUCTS_SECONDS
from dnlcontrol.discretisation.resources.fitted import SECONDS as FITTED_SECONDS
from dnlcontrol.discretisation.resources.pace import products_seconds
from dnlcontrol.discretisation.resources.sizes import Size, condensed_route, forecast_of, terms

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

WARM_DEPTH = 4
TOLERANCE = 1e-7
SECONDS = 1200  # of one child at most
SMALL_MB = 20.0  # memory below is not asked about
SMALL_SECONDS = 0.2
MEMORY_RATIO, SECONDS_RATIO = 1.25, 2.0
TABLES = {"MEMORY": MEMORY, "SECONDS": FITTED_SECONDS}  # as they were fitted before
ROUNDS = 40  # of the reweighted fit, which ends near the smallest largest ratio
# terms that the memory and the seconds of a route are fitted by
MEMORY_TERMS = {
    "lifted": (
        *("first", "curvature", "states", "layers", "fill"),
        *("rows", "sensitivities of rows", "symbols", "one"),
    ),
    "condensed, dense": ("dense", "sensitivities", "curvature", "one", "one of rows"),
    "condensed, by products": ("first", "curvature", "points", "controls", "layers", "one"),
    "stored": ("first", "second", "points", "controls", "taped", "states", "one"),
    "tape": ("taped", "taped with outer map", "taped states", "states", "controls", "one"),
    "chain": ("states", "chunk", "controls", "kept", "one"),
    "columns": ("states", "controls", "matrices", "kept", "one"),
    "dual": ("states", "chunk", "controls", "matrices", "one"),
    "printed": ("states", "chunk", "controls", "matrices", "one"),
}
# arrays that are there at least so often: what the settings are too small to show
VECTORS = 50.0  # of a preconditioner and of the products of a Newton step
LEAST = {
    "condensed, dense": {"sensitivities": 1.0},
    "condensed, by products": {"first": 2.0, "controls": 20.0},
    "stored": {"first": 1.0, "controls": VECTORS},
    "tape": {"states": 4.0, "controls": VECTORS},
    "chain": {"states": 4.0, "controls": VECTORS},
    "columns": {"states": 4.0, "controls": VECTORS},
    "dual": {"states": 4.0, "controls": VECTORS},
    "printed": {"states": 4.0, "controls": VECTORS},
}
SECONDS_TERMS = {
    "lifted": ("layers", "first", "fill work", "rows", "front", "one"),
    "condensed, dense": ("dense work", "sensitivity work", "first", "layers", "one", "one of rows"),
    "condensed, by products": ("first", "curvature", "points", "layers", "one"),
    "stored": ("layers", "first", "second", "points", "states", "one"),
    "tape": ("layers", "layers with outer map", "states"),
    "chain": ("layers", "states"),
    "columns": ("layers", "first", "states", "controls"),
    "dual": ("layers", "first"),
    "printed": ("layers", "first", "states", "one"),
}


@dataclass(frozen=True)
class Setting:
    """A solve: a module of problems/ or one made here, its parameters, depth and way."""

    problem: str
    depth: int
    way: str  # "lifted", "condensed" or "adjoint"
    parameters: dict[str, Any] = field(default_factory=dict)
    held: bool = False

    @property
    def name(self) -> str:
        """Words without spaces that tell it from every other."""
        given = "".join(f"-{k}={v}" for k, v in self.parameters.items())
        return f"{self.problem}{given}-L={self.depth}-{self.way}"

    def made(self) -> dnl.ControlProblem:
        """The problem."""
        if self.problem in MADE:
            return network(self.problem, **self.parameters)
        module = importlib.import_module(f"problems.{self.problem.removesuffix('_rows')}")
        problem: dnl.ControlProblem = module.problem(**self.parameters)
        return with_a_row(problem) if self.problem.endswith("_rows") else problem

    def counts(self) -> Structure:
        """Its sizes."""
        problem = self.made()
        return Structure(problem, Grid(self.depth, problem.horizon))

    @property
    def route(self) -> str:
        """The route of its way, whatever its constants are."""
        c = self.counts()
        return {"lifted": "lifted", "condensed": condensed_route(c), "adjoint": c.way}[self.way]

    def size(self) -> Size:
        """What is foretold of its way."""
        found: Size = getattr(forecast_of(self.counts()), self.way)
        return found


MADE = ("ode", "resnet", "separable", "volterra", "ode_rows")
SETTINGS = (
    Setting("o1_hager", 20_000, "lifted"),
    Setting("o1_hager", 60_000, "lifted", held=True),
    Setting("o5b_van_der_pol", 8000, "lifted"),
    Setting("o4_bryson_denham", 1000, "lifted"),
    Setting("o4_bryson_denham", 2000, "lifted"),
    Setting("two_class_toy", 8, "lifted"),
    Setting("two_class_toy", 10, "lifted", held=True),
    Setting("two_class_toy", 12, "lifted"),
    Setting("v1_rational_memory", 200, "lifted"),
    Setting("ode_rows", 400, "lifted", {"samples": 4, "width": 2}),
    Setting("spirals", 48, "condensed", {"alpha": 2e-2}),
    Setting("spirals", 64, "condensed", {"alpha": 2e-2}, held=True),
    Setting("spirals", 96, "condensed", {"alpha": 2e-2}),
    Setting("two_class_toy", 48, "condensed"),
    Setting("two_class_toy", 24, "condensed", {"samples": 64, "width": 4}),
    Setting("iris_dense", 16, "condensed"),
    Setting("iris_dense", 24, "condensed", held=True),
    Setting("o1_hager", 20_000, "condensed"),
    Setting("t7_h1_triangle", 160, "condensed"),
    Setting("two_class_toy", 11, "condensed"),
    Setting("iris_dense", 5, "condensed"),
    Setting("two_class_toy_rows", 12, "condensed"),
    Setting("two_class_toy_rows", 14, "condensed", held=True),
    Setting("spirals_rows", 20, "condensed", {"alpha": 2e-2}),
    Setting("ode_rows", 200, "condensed", {"samples": 4, "width": 2}),
    Setting("ode_rows", 400, "condensed", {"samples": 4, "width": 2}),
    Setting("o1_hager", 5000, "adjoint"),
    Setting("v1_rational_memory", 256, "adjoint"),
    Setting("v1_rational_memory", 500, "adjoint", held=True),
    Setting("v1_rational_memory", 800, "adjoint"),
    Setting("ode", 2000, "adjoint", {"samples": 16, "width": 2}),
    Setting("spirals", 64, "adjoint", {"alpha": 2e-2}),
    Setting("spirals", 128, "adjoint", {"alpha": 2e-2}),
    Setting("spirals", 192, "adjoint", {"alpha": 2e-2}, held=True),
    Setting("spirals", 256, "adjoint", {"alpha": 2e-2}),
    Setting("iris_dense", 32, "adjoint", held=True),
    Setting("iris_dense", 64, "adjoint"),
    Setting("two_class_toy", 128, "adjoint"),
    Setting("two_class_toy", 16, "adjoint", {"samples": 4096}),
    Setting("resnet", 512, "adjoint", {"samples": 256, "width": 4}),
    Setting("resnet", 256, "adjoint", {"samples": 512, "width": 8}, held=True),
    Setting("resnet", 1024, "adjoint", {"samples": 512, "width": 4}),
    Setting("separable", 256, "adjoint", {"samples": 32, "width": 4}),
    Setting("ode", 128, "adjoint", {"samples": 128, "width": 4}),
    Setting("ode", 256, "adjoint", {"samples": 64, "width": 4}),
    Setting("volterra", 48, "adjoint", {"samples": 64, "width": 2}),
    Setting("volterra", 64, "adjoint", {"samples": 64, "width": 4}, held=True),
    Setting("volterra", 128, "adjoint", {"samples": 64, "width": 4}),
    Setting("ode", 1024, "adjoint", {"samples": 512, "width": 4}),
)
TINY = (
    Setting("o1_hager", 64, "lifted"),
    Setting("two_class_toy", 6, "condensed"),
    Setting("ode", 32, "adjoint", {"samples": 4, "width": 2}),
)


def network(kind: str, samples: int, width: int) -> dnl.ControlProblem:
    """Data that swap places through tanh(W x + b), on one of the adjoint backend's ways."""
    x0 = np.random.default_rng(0).standard_normal((samples, width))

    def layer(x: Any, u: Any) -> Any:
        return dnl.namespace(x).tanh(u.W @ x + u.b)

    def memory(t: Any, s: Any, y: Any, u: Any) -> Any:
        return dnl.namespace(y).exp(s - t) * layer(y, u) - 0.1 * y

    dynamics = {
        "ode": dnl.ODE(lambda t, x, u: layer(x, u) - 0.1 * x),
        "ode_rows": dnl.ODE(lambda t, x, u: layer(x, u) - 0.1 * x),
        "resnet": dnl.ResNet(width),
        "separable": dnl.Separable(
            lambda t: [1.0 + t, -1.0], lambda s, x, u: [layer(x, u), s * layer(x, u)]
        ),
        "volterra": dnl.Volterra(memory),
    }[kind]
    place = "ts" if kind == "volterra" else "t"
    controls = {
        "W": dnl.Control((width, width), on=place, initial=0.1),
        "b": dnl.Control((width,), on=place),
    }
    made = dnl.ControlProblem(
        name=kind,
        x0=x0,
        dynamics=dynamics,
        controls=None if kind == "resnet" else controls,
        terminal=dnl.losses.squared(np.tanh(x0[:, ::-1])),
        regularisers=[dnl.H1("K" if kind == "resnet" else "W", 1e-2), dnl.H1("b", 1e-2)],
    )
    return with_a_row(made) if kind.endswith("_rows") else made


def with_a_row(p: dnl.ControlProblem) -> dnl.ControlProblem:
    """The problem with a bound on the first entry of a final state."""
    return dnl.ControlProblem(
        name=p.name,
        horizon=p.horizon,
        x0=p.x0,
        dynamics=p.dynamics,
        controls=p.controls,
        terminal=p.terminal,
        running=p.running,
        regularisers=p.regularisers,
        constraints=[dnl.terminal_constraint(lambda x, c: x[0], -0.5, 0.5, samples=[0])],
    )


# -- measuring -------------------------------------------------------------------------------------
def measured(setting: Setting) -> dict[str, Any]:
    """What a solve in this process takes, after one at depth 4."""
    warnings.simplefilter("ignore")
    problem, way = setting.made(), setting.way
    options: dict[str, Any] = {} if way == "adjoint" else {"formulation": way, "force": True}
    backend = "adjoint" if way == "adjoint" else "exact"
    dnl.solve(problem, WARM_DEPTH, backend, **options)
    before, began = peak_mb(), time.process_time()
    found = dnl.solve(problem, setting.depth, backend, tolerance=TOLERANCE, **options)
    seconds = time.process_time() - began
    return {
        "name": setting.name,
        "mb": peak_mb() - before,
        "seconds": seconds,
        "products_seconds": products_seconds(),
        "solved": found.success,
        "iterations": found.nit,
    }


def peak_mb() -> float:
    """The largest resident size of this process so far: of itself, not of what forked it."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    from dnlcontrol.results.environment import peak_memory

    return peak_memory()


def in_child(setting: Setting) -> dict[str, Any] | None:
    """The same in a process of its own; None where it fails or takes too long."""
    command = [sys.executable, __file__, "--child", setting.name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        print(f"{setting.name}: not done in {SECONDS} s", file=sys.stderr)
        return None
    if done.returncode:
        print(f"{setting.name}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def all_measured(settings: list[Setting], keep: Path | None) -> dict[str, dict[str, Any]]:
    """Each setting's measurement by name, of those that could be made."""
    lines = keep.read_text(encoding="utf-8").splitlines() if keep and keep.exists() else []
    found = {entry["name"]: entry for entry in map(json.loads, lines)}
    for setting in settings:
        if setting.name in found:
            continue
        print(setting.name, file=sys.stderr)
        seen = in_child(setting)
        if seen is not None:
            found[setting.name] = seen
            if keep:
                with keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(seen) + "\n")
    return {s.name: found[s.name] for s in settings if s.name in found}


# -- fitting ---------------------------------------------------------------------------------------
def fitted(settings: list[Setting], found: dict[str, dict[str, Any]]) -> str:
    """The text of fitted.py."""
    pace = float(np.median([seen["products_seconds"] for seen in found.values()]))
    lines = [f"PRODUCTS_SECONDS = {pace:.3g}"]
    for table, names, key, least in (
        ("MEMORY", MEMORY_TERMS, "mb", SMALL_MB),
        ("SECONDS", SECONDS_TERMS, "seconds", SMALL_SECONDS),
    ):
        lines.append(f"{table}: dict[str, dict[str, float]] = {{")
        for route, parts in names.items():
            taken = [s for s in settings if s.name in found and not s.held]
            taken = [s for s in taken if s.route == route]
            seen = np.array([found[s.name][key] for s in taken])
            known = LEAST.get(route, {}) if key == "mb" else {}
            weights = TABLES[table][route]  # where no setting takes the route
            if taken:
                weights = weights_of([terms(s.counts()) for s in taken], parts, known, seen, least)
            inner = ", ".join(f'"{k}": {v:.3g}' for k, v in weights.items() if v)
            lines.append(f'    "{route}": {{{inner}}},')
        lines.append("}")
    return "\n".join(lines)


def weights_of(
    rows: list[dict[str, float]],
    parts: tuple[str, ...],
    known: dict[str, float],
    seen: np.ndarray,
    least: float,
) -> dict[str, float]:
    """Weights of the terms for which Σ weight · term is nearest to what was seen.

    None is below what is ``known`` of it, or below 0; what was seen is at least ``least``, or known
    to that alone.
    """
    from scipy.optimize import nnls

    A = np.array([[row[k] for k in parts] for row in rows])
    low = np.array([known.get(k, 0.0) for k in parts])
    scale = 1.0 / np.maximum(seen, least)
    emphasis, best, worst = np.ones(len(seen)), low, np.inf
    for _ in range(ROUNDS):
        weight = scale * np.sqrt(emphasis)
        x = low + nnls(A * weight[:, None], (seen - A @ low) * weight)[0]
        ratio = np.abs(np.log(np.maximum(A @ x, 1e-9) / seen)) * (seen >= least)
        if ratio.max() < worst:
            best, worst = x, ratio.max()
        emphasis *= 0.2 + ratio / max(ratio.max(), 1e-9)  # towards the smallest largest ratio
        emphasis /= emphasis.max()
    return dict(zip(parts, best.tolist(), strict=True))


# -- reporting -------------------------------------------------------------------------------------
def table(settings: list[Setting], found: dict[str, dict[str, Any]]) -> str:
    """Forecast and measurement of each setting."""
    head = f"{'setting':52} {'route':24} {'MB':>15} {'ratio':>6} {'s':>15} {'ratio':>6}"
    lines, memory, seconds = [head], [], []
    for setting in settings:
        if setting.name not in found:
            continue
        size, seen = setting.size(), found[setting.name]
        said = size.work * seen["products_seconds"] / PRODUCTS_SECONDS
        mb, s = size.memory_mb / max(seen["mb"], 0.1), said / seen["seconds"]
        if seen["mb"] >= SMALL_MB:
            memory.append(max(mb, 1 / mb) <= MEMORY_RATIO)
        if seen["seconds"] >= SMALL_SECONDS:
            seconds.append(max(s, 1 / s) <= SECONDS_RATIO)
        lines.append(
            f"{setting.name + (' held' if setting.held else ''):52} {size.route:24} "
            f"{size.memory_mb:7.1f} {seen['mb']:7.1f} {mb:6.2f} {said:7.2f} "
            f"{seen['seconds']:7.2f} {s:6.2f}" + ("" if seen["solved"] else "  not solved")
        )
    lines.append(f"memory within 25% in {sum(memory)} of {len(memory)} settings above 20 MB")
    lines.append(f"seconds within a factor of 2 in {sum(seconds)} of {len(seconds)} settings")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="three small solves")
    parser.add_argument("--fit", action="store_true", help="print the constants of fitted.py")
    parser.add_argument("--only", default="", help="names of settings, separated by commas")
    parser.add_argument("--keep", type=Path, help="a file of measurements")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        (setting,) = (s for s in (*SETTINGS, *TINY) if s.name == given.child)
        print(json.dumps(measured(setting)))
        return 0
    settings = list(TINY if given.tiny else SETTINGS)
    if given.only:
        settings = [s for s in settings if s.name in given.only.split(",")]
    found = all_measured(settings, given.keep)
    if given.fit:
        print(fitted(settings, found))
    print(table(settings, found))
    return 0 if len(found) == len(settings) else 1


if __name__ == "__main__":
    sys.exit(main())
