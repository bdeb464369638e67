"""User formulas on the CPU: traced once, printed as NumPy source over whole columns."""
