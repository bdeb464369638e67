"""dnlcontrol: training as optimal control of Volterra equations, solved exactly and at large depth.

Every public name, by stage; heavy libraries are imported where they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from dnlcontrol.moved import install

install()  # import paths of the first version

__version__ = "0.1.0"

_STAGES = {
    # the problem
    "problem.problem": "ControlProblem",
    "problem.controls": "Control smooth_random",
    "problem.namespace": "namespace",
    "problem.dynamics": "Volterra ODE Dense ResNet Dynamics Separable exponential_memory Attention "
    "DenseTransformer Convolution DenseNet Patches WidthPDE",
    "problem.datasets": "images Images",
    "problem.activations": "tanh relu leaky_relu sigmoid softplus identity",
    "problem.losses": "cost head",
    "problem.regularisers": "H1 L2 TvG",
    "problem.constraints": "state_bounds path_constraint integral_constraint terminal_constraint",
    "problem.reference": "Reference",
    # discretise and solve
    "discretisation.grid": "Grid",
    "discretisation.space.control_space": "ControlSpace",
    "discretisation.discrete": "DiscreteProblem discretise",
    "backends.options": "Exact Adjoint Newton GaussNewton LBFGS MSA Adam SGD TorchOptimiser "
    "MiniBatches",
    "backends.adjoint.distributed": "share",
    "solving.solve": "solve simulate",
    "solving.hamilton_jacobi": "hamilton_jacobi ValueFunction",
    "results.solution": "Solution distance",
    # verify
    "certificates.taylor": "taylor_test",
    "certificates.optimality": "certify",
    "certificates.certificate": "Certificate",
    "certificates.minimum_principle.hamiltonian": "hamiltonian",
    # L -> infinity, study
    "limits.error_constant": "error_constant ErrorConstant",
    "limits.gamma_convergence": "recovery_sequence RecoverySequence liminf_check LiminfCheck",
    "limits.resnet_limit": "resnet_limit_report ResNetLimitReport",
    "limits.resnet_ode": "resnet_continuum ResNetContinuum continuum_energy",
    "studies.study": "study",
    "studies.result": "Study",
    "studies.load": "load",
    "studies.multistart": "multistart MultiStart",
    "studies.symmetries": "align HiddenPermutation SignFlip FiniteSymmetry",
    # other libraries
    "interop.casadi": "to_casadi export_c CasadiProgram",
    "interop.xarray": "to_xarray",
    "interop.traceable": "export_onnx",
    # errors
    "checks": "InputError InputTypeError ConvergenceWarning",
}
_EXPORTS = {name: module for module, names in _STAGES.items() for name in names.split()}
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
