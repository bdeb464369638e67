"""Kinks of formulas: found, softened, and given a side."""
