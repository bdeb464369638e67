"""Names for what passes the array seam, where one annotation stands for three libraries' arrays.

All of them are ``Any`` to a type checker: no type is common to ndarray, Tensor and ArrayInterface,
and what a formula may do with one is checked when it runs (array.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Native: TypeAlias = Any
"""An ndarray, a PyTorch tensor or a ``casadi.ArrayInterface``, of one engine at a time."""

FormulaArray: TypeAlias = Any
"""An argument or a result of a formula: an ``Array`` of rank <= 2 (or a number); a tensor where
``batched`` functions and activations run on whole batches."""

FormulaControls: TypeAlias = Any
"""What a formula reads its controls from, as ``u.W``: ``Values``, or a namespace of tensors."""

Activation: TypeAlias = Callable[[FormulaArray], FormulaArray]
"""σ, entry by entry: the result has its argument's shape."""

UserFormula: TypeAlias = Callable[..., FormulaArray]
"""A formula as the user writes it: (t, x, u), (t, s, y, u), (x, c) and the like -> array."""
