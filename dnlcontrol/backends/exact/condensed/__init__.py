"""The condensed formulation: states eliminated, exact dense Hessian in the controls, dense
factorisations.
"""
