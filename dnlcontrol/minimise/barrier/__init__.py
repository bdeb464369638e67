"""A primal-dual interior-point method on programs whose states are unknowns."""
