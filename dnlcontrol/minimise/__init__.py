"""Minimisers of a smooth function in a box with rows: NumPy, no problem, no grid."""
