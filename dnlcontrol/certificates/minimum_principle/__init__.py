"""Pontryagin's minimum principle at the nodes: the Hamiltonian, needles, where it is convex."""
