"""States are unknowns: the nonlinear program and IPOPT."""
