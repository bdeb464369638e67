"""Forward, adjoint and tangent recursions over the layers."""
