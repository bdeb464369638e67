"""Certificates for infinite depth.

Does N_n(x) converge as layers are added, and how far is N_n from the limit?

    stack = Stack(weights, biases), from_module(torch_module) or from_rule(rule, tail=...)
    report = certify(stack, x, radius=0.1, norm=2, tail=PowerLaw(c, s))
"""

from __future__ import annotations

from dnlcontrol.limits.infinite_depth.affine import (
    AffineForm,
    activation_matrices,
    activation_pattern,
    affine_form,
)
from dnlcontrol.limits.infinite_depth.hypotheses import (
    Contraction,
    Decay,
    NonnegativeTail,
    PositiveLimits,
    RegularDomain,
)
from dnlcontrol.limits.infinite_depth.majorants import Declared, Geometric, PowerLaw, Tail, Zero
from dnlcontrol.limits.infinite_depth.modules import from_module
from dnlcontrol.limits.infinite_depth.operators import ConvolutionOperator as Convolution
from dnlcontrol.limits.infinite_depth.operators import Toeplitz
from dnlcontrol.limits.infinite_depth.report import Report, certify
from dnlcontrol.limits.infinite_depth.stacks import Stack, from_rule

__all__ = [
    "AffineForm",
    "Contraction",
    "Convolution",
    "Decay",
    "Declared",
    "Geometric",
    "NonnegativeTail",
    "PositiveLimits",
    "PowerLaw",
    "RegularDomain",
    "Report",
    "Stack",
    "Tail",
    "Toeplitz",
    "Zero",
    "activation_matrices",
    "activation_pattern",
    "affine_form",
    "certify",
    "from_module",
    "from_rule",
]
