"""The kernel forms, one equation per file."""

from dnlcontrol.dynamics.base import Dynamics
from dnlcontrol.dynamics.dense import Dense
from dnlcontrol.dynamics.ode import ODE
from dnlcontrol.dynamics.pde import WidthPDE
from dnlcontrol.dynamics.resnet import ResNet
from dnlcontrol.dynamics.volterra import Volterra

__all__ = ["ODE", "Dense", "Dynamics", "ResNet", "Volterra", "WidthPDE"]
