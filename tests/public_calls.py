"""Every public function, class and method of the library, found by introspection."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

import dnlcontrol as dnl
from dnlcontrol.certificates import depth as infinite
from dnlcontrol.problem.namespace import VOCABULARY
from tests.call_examples import METHODS_OF
from tests.valid_arguments import ESTIMATORS

MODULES = {
    **{name: getattr(dnl, name) for name in ("losses", "activations", "dynamics", "init")},
    "certificates.depth": infinite,
}


# what the graph of a compiled network calls, with tensors of its own
INSIDE = ("final_state",)


def fit(kind: type) -> Callable[..., Any]:
    """Parameters of an estimator are checked where it is fitted, as scikit-learn asks."""

    def fitted(**given: Any) -> Any:
        return kind(**given).fit(np.array([[0.0], [1.0], [2.0]]), np.array([0, 1, 1]))

    fitted.__signature__ = inspect.signature(kind)  # type: ignore[attr-defined]
    return fitted


def public() -> dict[str, Callable[..., Any]]:
    """Name -> every public function and class, those of the public submodules with a prefix."""
    found = {name: getattr(dnl, name) for name in dnl.__all__}
    calls = {k: v for k, v in found.items() if callable(v)}
    calls.update({name: fit(getattr(dnl, name)) for name in ESTIMATORS})
    for prefix, module in MODULES.items():
        calls.update({f"{prefix}.{name}": fn for name, fn in _of_module(module)})
    seen: dict[Any, str] = {}
    for name, fn in calls.items():
        seen.setdefault(fn, name)  # once, under its shortest name
    return {name: fn for fn, name in seen.items()}


def _of_module(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    listed = getattr(module, "__all__", None)
    for name in listed or vars(module):
        fn = getattr(module, name)
        own = listed or getattr(fn, "__module__", "") == module.__name__
        if callable(fn) and own and not name.startswith("_"):
            yield name, fn


def methods() -> dict[str, Callable[[], Callable[..., Any]]]:
    """Type.method -> the bound method of an example, made anew."""
    found: dict[str, Callable[[], Callable[..., Any]]] = {}
    for kind, example in METHODS_OF.items():
        make = cache(example)
        names = VOCABULARY if kind == "namespace" else _methods_of(type(make()))
        for name in names:
            found[f"{kind}.{name}"] = lambda make=make, name=name: getattr(make(), name)
    return found


def _methods_of(kind: type) -> list[str]:
    functions = inspect.getmembers(kind, inspect.isfunction)
    own = [(n, f) for n, f in functions if f.__module__.startswith("dnlcontrol")]
    return [n for n, _ in own if n == "__call__" or not (n.startswith("_") or n in INSIDE)]
