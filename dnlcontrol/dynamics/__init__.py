"""The kernel forms, one equation per file."""

from dnlcontrol.dynamics.base import Dynamics
from dnlcontrol.dynamics.dense import Dense
from dnlcontrol.dynamics.ode import ODE
from dnlcontrol.dynamics.resnet import ResNet
from dnlcontrol.dynamics.separable import Separable, exponential_memory
from dnlcontrol.dynamics.volterra import Volterra

__all__ = ["ODE", "Dense", "Dynamics", "ResNet", "Separable", "Volterra", "exponential_memory"]
