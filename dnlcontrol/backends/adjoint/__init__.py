"""The adjoint backend: column sweeps in PyTorch, minimisers in the metric of the controls."""
