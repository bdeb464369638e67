"""The exact backend: the discrete problem transcribed into CasADi and solved by an interior-point
method.
"""
