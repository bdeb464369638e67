"""Affine columns on the CPU: calls of NumPy and PyTorch, made once, on memory that both share."""
