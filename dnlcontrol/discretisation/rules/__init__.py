"""Discretisation rules, one file each; a further rule is a file and its entry here."""

from __future__ import annotations

from dnlcontrol.discretisation.rules.base import Rule
from dnlcontrol.discretisation.rules.left import Left
from dnlcontrol.discretisation.rules.trapezoid import Trapezoid

RULES: dict[str, Rule] = {rule.name: rule for rule in (Left(), Trapezoid())}
