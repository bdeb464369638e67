"""The formulas of a discrete problem over many samples and layers, through torch.func.vmap.

The user's formula is written for one sample at one node; here it is mapped over samples (and
layers), and checked once against NumPy. A dynamics may bring its own batched kernel, which is
checked against the formula.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad
from numpy.typing import ArrayLike
from torch.func import vjp, vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from dnlcontrol.backends.by_identity import ByIdentity
from dnlcontrol.checks import InputError
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.files.turns import elsewhere
from dnlcontrol.problem.constraints import Constraint
from dnlcontrol.problem.engines import torch_engine
from dnlcontrol.problem.formula import Formula, compare
from dnlcontrol.problem.losses import Cost

Tensor = torch.Tensor
Tensors = Mapping[str, Tensor]
# what torch.func takes apart into tensors and puts together again
Tree = Tensor | Mapping[str, "Tree"] | tuple["Tree", ...]
# from the cotangent of a value to those of the arguments, in their shapes
Pull = Callable[[Any], Any]


def transformed() -> bool:
    """Whether a transform of torch.func is at work, which hides the numbers of its tensors."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def tangents_at_work() -> bool:
    """Whether dual numbers are at work in this thread: PyTorch has one level for all of them."""
    return forward_ad._current_level >= 0 and not elsewhere()


def differentiated(tensors: Iterable[Tensor]) -> bool:
    """Whether a transform, tangents or an outer tape follow what is done with some tensors."""
    taped = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return taped or tangents_at_work() or transformed()


def value_and_pull(function: Callable[..., Tensor], *at: Tree) -> tuple[Tensor, Pull]:
    """``function(*at)``, and the map from cotangents of the value to those of the arguments.

    By torch.func.vjp where a transform, tangents or an outer tape are at work; else by the plain
    tape, which does the same at a fraction of the cost for each call.
    """
    leaves, tree = tree_flatten(at)
    if differentiated(leaves):
        # a union of pairs and, with has_aux, triples in torch's annotations
        return vjp(function, *at)[:2]
    with torch.enable_grad():
        leaves = [leaf.detach().requires_grad_() for leaf in leaves]
        value = function(*tree_unflatten(leaves, tree))
    outputs, shape = tree_flatten(value)

    def pull(cotangents: Tree) -> Any:
        pairs = [
            (y, c)
            for y, c in zip(outputs, tree_flatten(cotangents)[0], strict=True)
            if y.requires_grad
        ]
        if not pairs:
            return tree_unflatten([torch.zeros_like(leaf) for leaf in leaves], tree)
        ys, cs = zip(*pairs, strict=True)
        parts = torch.autograd.grad(
            ys, leaves, cs, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return tree_unflatten(list(parts), tree)

    return tree_unflatten([y.detach() for y in outputs], shape), pull


def gradient_along(
    function: Callable[..., Tensor], at: tuple[Tree, ...], along: tuple[Tree, ...]
) -> tuple[Any, Any]:
    """The gradient of the number ``function(*at)`` and its derivative along ``along``.

    Both are in the shape of ``at``. The Hessian is symmetric: its product with a direction d is the
    gradient of <gradient, d>, by the plain tape.
    """
    leaves, tree = tree_flatten(at)
    with torch.enable_grad():
        leaves = [leaf.detach().requires_grad_() for leaf in leaves]
        value = function(*tree_unflatten(leaves, tree))
        found: Any = {"allow_unused": True, "materialize_grads": True}
        zeros = tuple(torch.zeros_like(leaf) for leaf in leaves)
        first = (
            torch.autograd.grad(value, leaves, create_graph=True, **found)
            if value.requires_grad
            else zeros
        )
    pairs = [(g, d) for g, d in zip(first, tree_flatten(along)[0], strict=True) if g.requires_grad]
    second = zeros
    if pairs:
        gradients, directions = zip(*pairs, strict=True)
        second = torch.autograd.grad(gradients, leaves, directions, **found)
    return tree_unflatten([g.detach() for g in first], tree), tree_unflatten(list(second), tree)


def over(function: Callable[..., Tensor], in_dims: tuple[int | None, ...]) -> Callable[..., Tensor]:
    """``vmap(function, in_dims)`` for 0 and None.

    What is not mapped goes around vmap, which spends its time on it.
    """
    places = [i for i, dim in enumerate(in_dims) if dim is not None]

    def run(*args: Tree) -> Tensor:
        def one(*parts: Tree) -> Tensor:
            full = list(args)
            for i, part in zip(places, parts, strict=True):
                full[i] = part
            return function(*full)

        return vmap(one)(*(args[i] for i in places))

    return run


class Entries:
    """Controls by attribute, for a batched kernel."""

    def __init__(self, entries: Tensors) -> None:
        self.__dict__.update(entries)


# the devices on which each problem's formulas have been compared with NumPy
_compared: ByIdentity[frozenset[torch.device]] = ByIdentity()


class Vectorised:
    """Every formula of a problem as a function of stacked tensors.

    With m layers and n samples:

        kernel(t (m,), s, y (n, *), ts {name: (m, *)}, shared {name: (*)}) -> (m, n, *z)
        feature(s, x (n, *), shared) -> (n, *y)
        outer(t, g (n, *), z (n, *), shared) -> (n, *)
        running, path constraints: (t (m,), x (m, n, *), path {name: (m, *)}, constants
                                    [, target (n, *)]) -> (m, n, *)
        terminal: (x (n, *), constants[, target (n, *)]) -> (n, *)
    """

    def __init__(
        self,
        discrete: DiscreteProblem,
        device: torch.device,
        dtype: torch.dtype,
        batched: bool = True,
    ) -> None:
        self.problem = discrete.problem
        self.device, self.dtype = device, dtype
        self.engine = torch_engine(dtype, device)
        f = self.problem.formulas
        compared = _compared.get(self.problem, frozenset())
        if device not in compared:
            self._compare_all()
            _compared[self.problem] = compared | {device}
        self.plain = self.kernel = self._kernel(f.kernel)
        self.batched = batched
        own = self.problem.dynamics.batched
        if own is not None and batched:
            self.kernel = self._own_kernel(own)
            check_batched(self, self.kernel, "batched")
        self.feature = self.mapped(f.feature, (None, 0, None))
        mapped, own = self.feature, self.problem.dynamics.batched_feature
        if mapped is not None and own is not None and batched:
            self.feature = self._own_feature(own)
            check_feature(self, mapped, self.feature, "batched_feature")
        self.outer = self.mapped(f.outer, (None, 0, 0, None))

    def _compare_all(self) -> None:
        """Every formula against NumPy at two points, in float64."""
        double = torch_engine(torch.float64, self.device)

        def tensors(value: ArrayLike | Mapping[str, ArrayLike]) -> Tree:
            if isinstance(value, Mapping):
                return {k: tensors(v) for k, v in value.items()}
            return torch.as_tensor(np.asarray(value), dtype=torch.float64, device=self.device)

        for formula in self.problem.formulas.all():

            def evaluate(
                *point: ArrayLike | Mapping[str, ArrayLike], formula: Formula = formula
            ) -> np.ndarray:
                one = vmap(lambda *a: formula(double, *a), in_dims=0)
                stacked = torch.utils._pytree.tree_map(
                    lambda v: v.unsqueeze(0), tuple(tensors(v) for v in point)
                )
                return np.asarray(one(*stacked)[0].cpu())

            compare(formula, double, evaluate, self.problem.horizon, self.targets(formula))

    def targets(self, formula: Formula) -> dict[str, np.ndarray]:
        """The first row of the targets that belong to a formula."""
        p = self.problem
        owners: dict[int, Cost | Constraint | None] = {
            id(p.formulas.terminal): p.terminal,
            id(p.formulas.running): p.running,
        }
        owners.update(
            {id(f): c for f, c in zip(p.formulas.constraints, p.constraints, strict=True)}
        )
        owner = owners.get(id(formula))
        return {} if owner is None or owner.target is None else {"target": owner.target[0]}

    def _apply(self, formula: Formula) -> Callable[..., Tensor]:
        return lambda *args: formula(self.engine, *args)

    def mapped(
        self, formula: Formula | None, in_dims: tuple[int | None, ...]
    ) -> Callable[..., Tensor] | None:
        """A formula over stacked tensors, those with the dimension 0; None for no formula."""
        return None if formula is None else over(self._apply(formula), in_dims)

    def _kernel(self, formula: Formula) -> Callable[..., Tensor]:
        def one(t: Tensor, s: Tensor, y: Tensor, ts: Tensors, shared: Tensors) -> Tensor:
            return formula(self.engine, t, s, y, {**shared, **ts})

        samples = over(one, (None, None, 0, None, None))
        rows = over(samples, (0, None, None, 0, None))

        def kernel(t: Tensor, s: Tensor, y: Tensor, ts: Tensors, shared: Tensors) -> Tensor:
            if len(t) > 1:
                return rows(t, s, y, ts, shared)
            return samples(t[0], s, y, {k: v[0] for k, v in ts.items()}, shared).unsqueeze(0)

        return kernel

    def _own_kernel(self, own: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda t, s, y, ts, shared: own(t, s, y, Entries({**shared, **ts}))

    def _own_feature(self, own: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda s, x, shared: own(s, x, Entries(shared))

    def over_nodes(self, formula: Formula) -> Callable[..., Tensor]:
        """A running cost or path constraint over layers and samples."""
        extra = (0,) if "target" in formula.shapes else ()
        samples = over(self._apply_split(formula), (None, 0, None, None, *extra))
        return over(samples, (0, 0, 0, None, *(None for _ in extra)))

    def _apply_split(self, formula: Formula) -> Callable[..., Tensor]:
        return lambda t, x, path, constants, *extra: formula(
            self.engine, t, x, {**path, **constants}, *extra
        )

    def over_samples(self, formula: Formula) -> Callable[..., Tensor]:
        """A terminal cost or constraint over samples."""
        extra = (0,) if "target" in formula.shapes else ()
        return over(self._apply(formula), (0, None, *extra))


def check_batched(vectorised: Vectorised, own: Callable[..., Tensor], what: str) -> None:
    """Compare a dynamics' own kernel over layers and samples with its formula at a seeded point.

    Samples must not interact. ``what`` is the attribute of the dynamics that gave it.

    Tolerance: both evaluate one kernel in float64 (float32: its own precision) with sums in another
    order.
    """
    p = vectorised.problem
    kernel = vectorised.problem.formulas.kernel
    draw = _drawn(vectorised, 22)
    m, n = (1, 3) if p.markov else (2, 3)
    T = p.horizon
    controls = {k: c for k, c in p.controls.items() if k in kernel.reads}
    ts = {k: draw(m, *c.shape) for k, c in controls.items() if c.on == "ts"}
    shared = {k: draw(*c.shape) for k, c in controls.items() if c.on != "ts"}
    t = torch.linspace(0.6 * T, 0.9 * T, m, dtype=vectorised.dtype, device=vectorised.device)
    point = (
        t,
        torch.tensor(0.3 * T, dtype=vectorised.dtype, device=vectorised.device),
        draw(n, *p.feature_shape),
        ts,
        shared,
    )
    _agree(
        vectorised,
        f"{type(p.dynamics).__name__}.{what}",
        own,
        vectorised.plain(*point),
        point,
        "(t (m,), s, y (n, *), u) -> (m, n, *z)",
    )


def check_feature(
    vectorised: Vectorised, mapped: Callable[..., Tensor], own: Callable[..., Tensor], what: str
) -> None:
    """The same for a dynamics' own feature map over samples."""
    p = vectorised.problem
    feature = vectorised.problem.formulas.feature
    draw = _drawn(vectorised, 23)
    shared = {k: draw(*c.shape) for k, c in p.controls.items() if feature and k in feature.reads}
    s = torch.tensor(0.3 * p.horizon, dtype=vectorised.dtype, device=vectorised.device)
    point = (s, draw(3, *p.state_shape), shared)
    _agree(
        vectorised,
        f"{type(p.dynamics).__name__}.{what}",
        own,
        mapped(*point),
        point,
        "(s, x (n, *), u) -> (n, *y)",
    )


def check_outer(
    vectorised: Vectorised, mapped: Callable[..., Tensor], own: Callable[..., Tensor], what: str
) -> None:
    """The same for an outer map over samples. It is given all path controls and constants."""
    p = vectorised.problem
    outer = vectorised.problem.formulas.outer
    draw = _drawn(vectorised, 24)
    u = {k: draw(*c.shape) for k, c in p.controls.items() if c.on != "ts"}
    read = {k: v for k, v in u.items() if outer and k in outer.reads}
    t = torch.tensor(0.6 * p.horizon, dtype=vectorised.dtype, device=vectorised.device)
    at = t, draw(3, *p.state_shape), draw(3, *p.integral_shape)
    _agree(
        vectorised,
        f"{type(p.dynamics).__name__}.{what}",
        own,
        mapped(*at, read),
        (*at, u),
        "(t, g (n, *), z (n, *), u) -> (n, *)",
    )


def _drawn(vectorised: Vectorised, seed: int) -> Callable[..., Tensor]:
    """Seeded random tensors of a shape."""
    rng = np.random.default_rng(seed)
    return lambda *shape: torch.as_tensor(
        0.5 * rng.standard_normal(shape), dtype=vectorised.dtype, device=vectorised.device
    )


def _agree(
    vectorised: Vectorised,
    name: str,
    own: Callable[..., Tensor],
    expected: Tensor,
    point: tuple[Tree, ...],
    signature: str,
) -> None:
    """Raise unless ``own`` gives what the mapped formula gives at a point."""
    try:
        got = own(*point)
    except Exception as error:
        seen = f"{type(error).__name__} ({' '.join(str(error).split())[:120]})"
        raise InputError(f"{name}: got {seen}; allowed: a PyTorch function {signature}") from error
    if not isinstance(got, Tensor) or got.dtype != vectorised.dtype:
        seen = f"a {got.dtype} tensor" if isinstance(got, Tensor) else type(got).__name__
        raise InputError(
            f"{name}: got {seen}; allowed: a {vectorised.dtype} tensor made from its arguments"
        )
    if tuple(got.shape) != tuple(expected.shape):
        raise InputError(
            f"{name}: got a result of shape {tuple(got.shape)}; allowed: shape "
            f"{tuple(expected.shape)} of {signature}"
        )
    tolerance = 1e3 * torch.finfo(vectorised.dtype).eps
    if not torch.allclose(got, expected, rtol=tolerance, atol=tolerance):
        gap = (got - expected).abs().max().item()
        raise InputError(
            f"{name}: got values that differ from the formula by {gap:.1e} (or samples that "
            "interact); allowed: the "
            "formula's values, one sample at a time"
        )
