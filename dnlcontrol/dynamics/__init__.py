"""The kernel forms, one equation per file."""

from dnlcontrol.dynamics.base import Affine, Dynamics
from dnlcontrol.dynamics.dense import Dense
from dnlcontrol.dynamics.ode import ODE
from dnlcontrol.dynamics.resnet import ResNet
from dnlcontrol.dynamics.volterra import Volterra

__all__ = ["ODE", "Affine", "Dense", "Dynamics", "ResNet", "Volterra"]
