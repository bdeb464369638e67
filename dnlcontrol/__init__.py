"""dnlcontrol: training as optimal control of Volterra equations, solved exactly and at large depth.

Every public name, by stage; heavy libraries are imported where they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    # the problem
    "ControlProblem": "problem", "Control": "controls", "smooth_random": "controls", "namespace": "array",
    "Volterra": "dynamics", "ODE": "dynamics", "Dense": "dynamics", "ResNet": "dynamics", "Dynamics": "dynamics",
    "Separable": "dynamics", "exponential_memory": "dynamics",
    "Attention": "dynamics", "DenseTransformer": "dynamics", "Convolution": "dynamics", "DenseNet": "dynamics",
    "Patches": "dynamics", "images": "imagesets", "Images": "imagesets",
    "WidthPDE": "dynamics",
    "tanh": "activations", "relu": "activations", "leaky_relu": "activations", "sigmoid": "activations",
    "softplus": "activations", "identity": "activations", "cost": "losses", "head": "losses",
    "H1": "regularisers", "L2": "regularisers", "TvG": "regularisers",
    "state_bounds": "constraints", "path_constraint": "constraints", "integral_constraint": "constraints",
    "terminal_constraint": "constraints", "Reference": "reference",
    # discretise and solve
    "Grid": "grid", "ControlSpace": "space.control_space", "DiscreteProblem": "discrete", "discretise": "discrete",
    "solve": "solving", "simulate": "solving", "Solution": "solution", "distance": "solution", "load": "storage",
    "to_casadi": "backends.exact.export", "export_c": "backends.exact.export",
    "CasadiProgram": "backends.exact.export", "to_xarray": "labelled",
    "MiniBatches": "backends.adjoint.stochastic", "share": "backends.adjoint.distributed",
    "export_onnx": "backends.adjoint.traceable",
    "hamilton_jacobi": "hjb", "ValueFunction": "hjb",
    # verify, study
    "taylor_test": "certificates.taylor", "certify": "certificates.optimality",
    "Certificate": "certificates.certificate", "error_constant": "certificates.error_constant",
    "hamiltonian": "certificates.hamiltonian",
    "recovery_sequence": "certificates.gamma_convergence", "RecoverySequence": "certificates.gamma_convergence",
    "liminf_check": "certificates.gamma_convergence", "LiminfCheck": "certificates.gamma_convergence",
    "resnet_limit_report": "certificates.resnet_limit", "ResNetLimitReport": "certificates.resnet_limit",
    "resnet_continuum": "certificates.resnet_ode", "ResNetContinuum": "certificates.resnet_ode",
    "continuum_energy": "certificates.resnet_ode",
    "ErrorConstant": "certificates.error_constant", "study": "studies", "Study": "studies",
    "multistart": "multistarts", "MultiStart": "multistarts", "align": "symmetries",
    "HiddenPermutation": "symmetries", "SignFlip": "symmetries", "FiniteSymmetry": "symmetries",
    # errors
    "InputError": "checks", "InputTypeError": "checks", "ConvergenceWarning": "checks",
}  # fmt: skip
_MODULES = ("losses", "activations", "dynamics", "certificates", "init")
# They need scikit-learn: not in __all__, so that ``from dnlcontrol import *`` does without it.
_OPTIONAL = {"DenseControlClassifier": "estimators", "DenseControlRegressor": "estimators"}

__all__ = ["__version__", *_EXPORTS, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS or name in _OPTIONAL:
        return getattr(import_module(f"dnlcontrol.{({**_EXPORTS, **_OPTIONAL})[name]}"), name)
    if name in _MODULES:
        return import_module(f"dnlcontrol.{name}")
    raise AttributeError(f"module 'dnlcontrol' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
