"""Every kind of what may be planted in a sound solution, by name: see planted_solution.py."""

from __future__ import annotations

from tests import planted_claims, planted_figures
from tests.planted_solution import BASES, PLANTS, sound

__all__ = ["BASES", "PLANTS", "planted_claims", "planted_figures", "sound"]
