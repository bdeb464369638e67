"""Names for the two kinds of flat vector that cross the boundaries between stages."""

from __future__ import annotations

import numpy as np

Flat = np.ndarray
"""All controls of a discrete problem in one vector w, (space.size,), packed by control and column;
also a gradient or a direction in that space."""

RowVector = np.ndarray
"""One entry for each constraint row, (rows.size,): values c, multipliers μ or weights."""
