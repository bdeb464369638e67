"""The kernel forms, one equation per file."""

from dnlcontrol.problem.dynamics.attention import Attention, DenseTransformer
from dnlcontrol.problem.dynamics.base import Affine, Dynamics, Outer
from dnlcontrol.problem.dynamics.convolution import Convolution, DenseNet, Patches
from dnlcontrol.problem.dynamics.dense import Dense
from dnlcontrol.problem.dynamics.ode import ODE
from dnlcontrol.problem.dynamics.pde import WidthPDE
from dnlcontrol.problem.dynamics.resnet import ResNet
from dnlcontrol.problem.dynamics.separable import Separable, exponential_memory
from dnlcontrol.problem.dynamics.volterra import Volterra

__all__ = [
    "ODE",
    "Affine",
    "Attention",
    "Convolution",
    "Dense",
    "DenseNet",
    "DenseTransformer",
    "Dynamics",
    "Outer",
    "Patches",
    "ResNet",
    "Separable",
    "Volterra",
    "WidthPDE",
    "exponential_memory",
]
