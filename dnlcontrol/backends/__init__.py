"""Solvers for a discrete problem: exact (CasADi) and adjoint (PyTorch)."""
