"""The exact backend: the problem transcribed into CasADi, solved by an interior-point method."""
