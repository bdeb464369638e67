"""Smooth functions in a box, with rows or without, and spaces for them; no state equation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

import dnlcontrol as dnl
from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.minimise.evaluator import Trajectory
from dnlcontrol.minimise.quadratic_model import QuadraticModel

EPS = np.finfo(float).eps


def space_of(constants=0, path=0, lower=-np.inf, upper=np.inf) -> ControlSpace:
    """Entries of a constant, whose metric is Euclidean, and of a path control with that of H¹."""
    controls, regularisers, parts = {}, [], []
    if constants:
        controls["c"] = dnl.Control((constants,), on="const", lower=lower, upper=upper)
        parts.append(lambda u: u.c @ u.c)
    if path:
        controls["v"] = dnl.Control((), lower=lower, upper=upper)
        regularisers.append(dnl.H1("v", 1.0))
        parts.append(lambda u: u.v**2)
    problem = dnl.ControlProblem(
        name="space",
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: -x),
        controls=controls,
        running=lambda t, x, u: x**2 + sum(part(u) for part in parts),
        regularisers=regularisers,
    )
    return dnl.discretise(problem, max(path, 1)).space


def dense(apply, size):
    """The matrix of a linear map."""
    return np.stack([apply(e) for e in np.eye(size)], axis=1)


def definite(rng, size, condition=100.0):
    """A random symmetric matrix with eigenvalues between 1 and ``condition``."""
    turn = np.linalg.qr(rng.standard_normal((size, size)))[0]
    return (turn * np.geomspace(1.0, condition, size)) @ turn.T


@dataclass(frozen=True)
class Function:
    """f in the box of a space: its value, gradient and dense Hessian."""

    space: ControlSpace
    f: Callable
    gradient: Callable
    hessian: Callable

    def value_and_gradient(self, w):
        return float(self.f(w)), self.gradient(w)

    def hessian_product(self, w, d):
        return self.hessian(w) @ d

    def solve_model(self, w, g, face, radius, accuracy, max_products):
        model = QuadraticModel(self.space, partial(self.hessian_product, w), w, g, face)
        return model.minimise(radius, accuracy, max_products)


def quadratic(space, H, b) -> Function:
    """½ wᵀHw - bᵀw."""
    return Function(space, lambda w: 0.5 * w @ H @ w - b @ w, lambda w: H @ w - b, lambda w: H)


def rosenbrock(space) -> Function:
    """Σ 100 (w_{i+1} - w_i²)² + (1 - w_i)²; its unbounded minimum 0 is at (1, ..., 1)."""

    def value(w):
        return np.sum(100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2)

    def gradient(w):
        g, off = np.zeros_like(w), w[1:] - w[:-1] ** 2
        g[1:] += 200 * off
        g[:-1] += -400 * w[:-1] * off - 2 * (1 - w[:-1])
        return g

    def hessian(w):
        main, side = np.zeros_like(w), -400 * w[:-1]
        main[1:] += 200
        main[:-1] += 1200 * w[:-1] ** 2 - 400 * w[1:] + 2
        return np.diag(main) + np.diag(side, 1) + np.diag(side, -1)

    return Function(space, value, gradient, hessian)


def double_well(space) -> Function:
    """Σ (w_i² - 1)²/4 a_i, a_i = 1, 2, ...: a saddle or maximum wherever an entry is 0."""
    a = np.arange(1.0, space.size + 1)
    return Function(
        space,
        lambda w: np.sum(a * (w**2 - 1) ** 2) / 4,
        lambda w: a * (w**2 - 1) * w,
        lambda w: np.diag(a * (3 * w**2 - 1)),
    )


@dataclass(frozen=True)
class LinearRows:
    """lower <= Cw <= upper."""

    C: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @property
    def size(self):
        return len(self.C)

    @property
    def bounds(self):
        return self.lower, self.upper

    @cached_property
    def weights(self):
        return np.ones(self.size)

    def violation(self, c):
        return np.maximum(np.maximum(self.lower - c, c - self.upper), 0.0)

    def worst(self, c):
        off = self.violation(c)
        return f"row {off.argmax()} off by {off.max():.1e}" if off.any() else ""


@dataclass(frozen=True)
class WithRows:
    """A function with linear rows: what the minimisers with rows ask of an evaluator."""

    function: Function
    rows: LinearRows

    @property
    def space(self):
        return self.function.space

    def constraint_values(self, w):
        return self.rows.C @ w

    def constraint_gradient(self, w, weights):
        return self.rows.C.T @ weights

    def shifted(self, c, m):
        """c + μ/ρ less its projection on the sides, where ρ > 0."""
        s = c + m.mu / m.rho
        return s - np.clip(s, *self.rows.bounds)

    def value(self, w, multipliers=None):
        c, m = self.constraint_values(w), multipliers
        if m is None:
            return float(self.function.f(w))
        if not np.any(m.rho):
            return float(self.function.f(w) + m.mu @ c)
        penalty = 0.5 * m.rho * self.shifted(c, m) ** 2 - m.mu**2 / (2 * m.rho)
        return float(self.function.f(w) + penalty.sum())

    def value_and_gradient(self, w, multipliers=None):
        g, m = self.function.gradient(w), multipliers
        if m is not None:
            free = not np.any(m.rho)
            weights = m.mu if free else m.rho * self.shifted(self.constraint_values(w), m)
            g = g + self.rows.C.T @ weights
        return self.value(w, m), g

    def hessian_product(self, w, d, multipliers=None):
        out, m = self.function.hessian(w) @ d, multipliers
        if m is not None and np.any(m.rho):
            outside = self.shifted(self.constraint_values(w), m) != 0
            out = out + self.rows.C.T @ (m.rho * outside * (self.rows.C @ d))
        return out

    def trajectory(self, w, multipliers=None):
        none = np.zeros(0)
        value, g = self.value_and_gradient(w, multipliers)
        return Trajectory(value, g, none, none, none, none, constraints=self.constraint_values(w))


@dataclass(frozen=True)
class Lagrangian:
    """The (augmented) Lagrangian of ``WithRows`` at fixed multipliers."""

    evaluator: WithRows
    multipliers: object
    preconditioner: object = None

    @property
    def space(self):
        return self.evaluator.space

    def value_and_gradient(self, w):
        return self.evaluator.value_and_gradient(w, self.multipliers)

    def hessian_product(self, w, d):
        return self.evaluator.hessian_product(w, d, self.multipliers)

    def solve_model(self, w, g, face, radius, accuracy, max_products):
        model = QuadraticModel(self.space, partial(self.hessian_product, w), w, g, face)
        return model.minimise(radius, accuracy, max_products)
