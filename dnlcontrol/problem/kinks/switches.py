"""An engine that hands every kink of a formula to somebody who decides what becomes of it.

A kink is a switch between two branches: with a the argument, θ = 1 where a > 0 and 0 elsewhere,

    abs(x) = θ x + (1 - θ)(-x), a = x        maximum(p, q) = θ p + (1 - θ) q, a = p - q
    where(l > r, p, q) = θ p + (1 - θ) q, a = l - r        minimum(p, q): a = q - p

where on a condition that is no single comparison stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from dnlcontrol.problem.engines import Engine, Native


class Keeper(Protocol):
    """Who decides: :class:`Recorder`, or one that softens or sets sides."""

    def switch(
        self, engine: Engine, kind: str, argument: Native, branches: tuple[Native, Native]
    ) -> Native:
        """The value of one switch on arrays of ``engine``, all of the argument's shape."""
        ...


class SwitchEngine(Engine):
    """Another engine, but its kinks go to a keeper, one after the other. One for each call."""

    def __init__(self, inner: Engine, keeper: Keeper) -> None:
        self.inner = inner
        self.name = inner.name
        self._keeper = keeper
        self._compared: dict[int, tuple[Native, Native]] = {}  # by id: (kept alive, argument)
        self.unary = {**inner.unary, "abs": self._abs}
        self.binary = {
            **inner.binary,
            "gt": self._comparison("gt", 1.0),
            "ge": self._comparison("ge", 1.0),
            "lt": self._comparison("lt", -1.0),
            "le": self._comparison("le", -1.0),
        }

    # -- the kinks
    def _abs(self, x: Native) -> Native:
        return self._keeper.switch(self.inner, "abs", x, (x, -x))

    def _comparison(self, op: str, sign: float) -> Callable[..., Native]:
        compare = self.inner.binary[op]

        def compared(a: Native, b: Native) -> Native:
            mask = compare(a, b)
            self._compared[id(mask)] = mask, sign * (a - b)
            return mask

        return compared

    def where(self, condition: Native, a: Native, b: Native) -> Native:
        found = self._compared.get(id(condition))
        if found is None:
            return self.inner.where(condition, a, b)
        return self._keeper.switch(self.inner, "where", found[1], (a, b))

    def maximum(self, a: Native, b: Native) -> Native:
        return self._keeper.switch(self.inner, "maximum", a - b, (a, b))

    def minimum(self, a: Native, b: Native) -> Native:
        return self._keeper.switch(self.inner, "minimum", b - a, (a, b))

    # -- a comparison stays one when it is turned into numbers or repeated
    def number(self, mask: Native) -> Native:
        found = self._compared.get(id(mask))
        out = self.inner.number(mask)
        if found is not None:
            self._compared[id(out)] = out, found[1]
        return out

    def broadcast(self, x: Native, shape: tuple[int, ...]) -> Native:
        found = self._compared.get(id(x))
        out = self.inner.broadcast(x, shape)
        if found is not None:
            argument = self.inner.broadcast(self.inner.asarray(found[1]), shape)
            self._compared[id(out)] = out, argument
        return out

    # -- everything else is the other engine's
    def owns(self, x: object) -> bool:
        return self.inner.owns(x)

    def asarray(self, x: Native) -> Native:
        return self.inner.asarray(x)

    def full(self, shape: tuple[int, ...], value: float) -> Native:
        return self.inner.full(shape, value)

    def sum(self, x: Native, axis: int) -> Native:
        return self.inner.sum(x, axis)

    def logsumexp(self, x: Native, axis: int) -> Native:
        return self.inner.logsumexp(x, axis)

    def stack(self, arrays: Sequence[Native], axis: int) -> Native:
        return self.inner.stack(arrays, axis)

    def concat(self, arrays: Sequence[Native], axis: int) -> Native:
        return self.inner.concat(arrays, axis)

    def reshape(self, x: Native, shape: tuple[int, ...]) -> Native:
        return self.inner.reshape(x, shape)

    def transpose(self, x: Native) -> Native:
        return self.inner.transpose(x)

    def getitem(self, x: Native, keys: tuple[int | slice, ...]) -> Native:
        return self.inner.getitem(x, keys)


def natural(engine: Engine, argument: Native, branches: tuple[Native, Native]) -> Native:
    """The branch on the argument's side."""
    return engine.where(engine.number(argument > 0), *branches)


class Recorder:
    """Leaves every switch as it is and keeps kinds and arguments, in the order of evaluation."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.arguments: list[Native] = []

    def switch(
        self, engine: Engine, kind: str, argument: Native, branches: tuple[Native, Native]
    ) -> Native:
        """The branch on the argument's side."""
        self.kinds.append(kind)
        self.arguments.append(argument)
        return natural(engine, argument, branches)
