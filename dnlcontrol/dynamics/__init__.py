"""The kernel forms, one equation per file."""

from dnlcontrol.dynamics.attention import Attention, DenseTransformer
from dnlcontrol.dynamics.base import Affine, Dynamics, Outer
from dnlcontrol.dynamics.convolution import Convolution, DenseNet, Patches
from dnlcontrol.dynamics.dense import Dense
from dnlcontrol.dynamics.ode import ODE
from dnlcontrol.dynamics.pde import WidthPDE
from dnlcontrol.dynamics.resnet import ResNet
from dnlcontrol.dynamics.separable import Separable, exponential_memory
from dnlcontrol.dynamics.volterra import Volterra

__all__ = ["ODE", "Affine", "Attention", "Convolution", "Dense", "DenseNet", "DenseTransformer", "Dynamics", "Outer",
           "Patches", "ResNet", "Separable", "Volterra", "WidthPDE", "exponential_memory"]  # fmt: skip
