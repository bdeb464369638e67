"""What is known of an object, kept beside it for as long as it lives."""

from __future__ import annotations

import weakref
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ByIdentity(Generic[Value]):
    """A mapping from objects, told apart by identity, that does not keep them alive.

    Objects need neither be hashable nor immutable, and a copy is another object.
    """

    def __init__(self) -> None:
        self._values: dict[int, Value] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return id(key) in self._values

    def __getitem__(self, key: object) -> Value:
        return self._values[id(key)]

    def get(self, key: object, default: Value) -> Value:
        """What is known of an object, or the default."""
        return self._values.get(id(key), default)

    def __setitem__(self, key: object, value: Value) -> None:
        if id(key) not in self._values:
            weakref.finalize(key, self._values.pop, id(key), None).atexit = False
        self._values[id(key)] = value

    def pop(self, key: object) -> None:
        """Forget an object."""
        self._values.pop(id(key), None)
