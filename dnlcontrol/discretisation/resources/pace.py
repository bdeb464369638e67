"""How slow this machine is against the one that fitted.py is of: one small timed product."""

from __future__ import annotations

import time
from functools import cache

import numpy as np

from dnlcontrol.discretisation.resources.fitted import PRODUCTS_SECONDS

SIZE = 8  # of the matrices: calls cost as much as numbers, as in a sweep of a small problem
PRODUCTS = 2000
REPEATS = 3  # the fastest counts


@cache
def slowness() -> float:
    """Seconds here for a second there; measured once, in a few milliseconds."""
    return products_seconds() / PRODUCTS_SECONDS


def products_seconds() -> float:
    """Processor seconds of so many products of small matrices."""
    a = np.full((SIZE, SIZE), 1.0 / SIZE)
    found = []
    for _ in range(REPEATS):
        began, b = time.thread_time(), a
        for _ in range(PRODUCTS):
            b = a @ b
        found.append(time.thread_time() - began)
    return min(found)
