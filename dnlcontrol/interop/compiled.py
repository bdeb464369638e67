"""A network's explicit layers as one operator of PyTorch, for torch.compile.

Its front end, which reads Python, meets the operator alone; a formula's shell would stop it. The
stages behind record the tensor operations inside, as of any composite operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Protocol
from weakref import WeakValueDictionary

import torch

Tensor = torch.Tensor


class Layered(Protocol):
    """What has layers."""

    def final_state(self, x0: Tensor, values: Sequence[Tensor]) -> Tensor:
        """x^L (N, *state) with these values of its controls and of its buffers."""


OWNERS: WeakValueDictionary[str, Layered] = WeakValueDictionary()
NUMBERS = count()


def key_of(owner: Layered) -> str:
    """A new name of ``owner``, which is kept no longer than without it."""
    key = str(next(NUMBERS))
    OWNERS[key] = owner
    return key


def final_state(key: str, x0: Tensor, values: list[Tensor]) -> Tensor:
    """x^L of the network with that key."""
    return OWNERS[key].final_state(x0, values)


LIBRARY = torch.library.Library("dnlcontrol", "FRAGMENT")
LIBRARY.define("final_state(str key, Tensor x0, Tensor[] values) -> Tensor")
LIBRARY.impl("final_state", final_state, "CompositeImplicitAutograd")
