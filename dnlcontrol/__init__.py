"""dnlcontrol: training as optimal control of Volterra equations, solved exactly and at large depth.

Every public name, by stage; heavy libraries are imported where they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    # the problem
    "ControlProblem": "problem.problem",
    "Control": "problem.controls",
    "smooth_random": "problem.controls",
    "namespace": "problem.namespace",
    "Volterra": "problem.dynamics",
    "ODE": "problem.dynamics",
    "Dense": "problem.dynamics",
    "ResNet": "problem.dynamics",
    "Dynamics": "problem.dynamics",
    "Separable": "problem.dynamics",
    "exponential_memory": "problem.dynamics",
    "Attention": "problem.dynamics",
    "DenseTransformer": "problem.dynamics",
    "Convolution": "problem.dynamics",
    "DenseNet": "problem.dynamics",
    "Patches": "problem.dynamics",
    "images": "problem.datasets",
    "Images": "problem.datasets",
    "WidthPDE": "problem.dynamics",
    "tanh": "problem.activations",
    "relu": "problem.activations",
    "leaky_relu": "problem.activations",
    "sigmoid": "problem.activations",
    "softplus": "problem.activations",
    "identity": "problem.activations",
    "cost": "problem.losses",
    "head": "problem.losses",
    "H1": "problem.regularisers",
    "L2": "problem.regularisers",
    "TvG": "problem.regularisers",
    "state_bounds": "problem.constraints",
    "path_constraint": "problem.constraints",
    "integral_constraint": "problem.constraints",
    "terminal_constraint": "problem.constraints",
    "Reference": "problem.reference",
    # discretise and solve
    "Grid": "discretisation.grid",
    "ControlSpace": "discretisation.space.control_space",
    "DiscreteProblem": "discretisation.discrete",
    "discretise": "discretisation.discrete",
    "solve": "solving.solve",
    "simulate": "solving.solve",
    "Solution": "results.solution",
    "distance": "results.solution",
    "load": "studies.load",
    "to_casadi": "interop.casadi",
    "export_c": "interop.casadi",
    "CasadiProgram": "interop.casadi",
    "to_xarray": "interop.xarray",
    "MiniBatches": "backends.adjoint.stochastic",
    "share": "backends.adjoint.distributed",
    "export_onnx": "interop.traceable",
    "hamilton_jacobi": "solving.hamilton_jacobi",
    "ValueFunction": "solving.hamilton_jacobi",
    # verify, study
    "taylor_test": "certificates.taylor",
    "certify": "certificates.optimality",
    "Certificate": "certificates.certificate",
    "error_constant": "limits.error_constant",
    "hamiltonian": "certificates.hamiltonian",
    "recovery_sequence": "limits.gamma_convergence",
    "RecoverySequence": "limits.gamma_convergence",
    "liminf_check": "limits.gamma_convergence",
    "LiminfCheck": "limits.gamma_convergence",
    "resnet_limit_report": "limits.resnet_limit",
    "ResNetLimitReport": "limits.resnet_limit",
    "resnet_continuum": "limits.resnet_ode",
    "ResNetContinuum": "limits.resnet_ode",
    "continuum_energy": "limits.resnet_ode",
    "ErrorConstant": "limits.error_constant",
    "study": "studies.study",
    "Study": "studies.result",
    "multistart": "studies.multistart",
    "MultiStart": "studies.multistart",
    "align": "studies.symmetries",
    "HiddenPermutation": "studies.symmetries",
    "SignFlip": "studies.symmetries",
    "FiniteSymmetry": "studies.symmetries",
    # errors
    "InputError": "checks",
    "InputTypeError": "checks",
    "ConvergenceWarning": "checks",
}
_MODULES = {
    "losses": "problem.losses",
    "activations": "problem.activations",
    "dynamics": "problem.dynamics",
    "certificates": "certificates",
    "init": "limits.init",
}
# They need scikit-learn: not in __all__, so that ``from dnlcontrol import *`` does without it.
_OPTIONAL = {
    "DenseControlClassifier": "interop.estimators",
    "DenseControlRegressor": "interop.estimators",
}

__all__ = ["__version__", *_EXPORTS, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS or name in _OPTIONAL:
        return getattr(import_module(f"dnlcontrol.{({**_EXPORTS, **_OPTIONAL})[name]}"), name)
    if name in _MODULES:
        return import_module(f"dnlcontrol.{_MODULES[name]}")
    raise AttributeError(f"module 'dnlcontrol' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
