"""The condensed formulation: states eliminated, exact dense Hessian, dense factorisations."""
