"""certify rejects every kind that may be planted in a solution, of both backends and rules."""

from __future__ import annotations

import pytest

import dnlcontrol as dnl
from tests.generated_plants import BASES, PLANTS, sound

LEAST_KINDS = 60


def rejected(name: str, base: tuple[str, str]) -> str:
    """The rows that fail, or the refusal; '' where the planted solution passes."""
    base_solution = sound(*base)
    try:
        certificate = dnl.certify(PLANTS[name](base_solution), seed=0)
    except dnl.InputError as error:
        return str(error)
    return ", ".join(row.name for row in certificate.failed)


def test_there_are_enough_kinds():
    assert len(PLANTS) >= LEAST_KINDS


@pytest.mark.parametrize("base", BASES)
def test_the_sound_ones_pass(base):
    certificate = dnl.certify(sound(*base), seed=0)
    assert certificate.passed, certificate


@pytest.mark.parametrize(
    ("name", "base"), [(name, BASES[k % len(BASES)]) for k, name in enumerate(PLANTS)]
)
def test_what_is_planted_is_rejected(name, base):
    """Each kind on one of the four solutions, by turns; a refusal is one line."""
    assert len(rejected(name, base).splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", PLANTS)
def test_what_is_planted_is_rejected_everywhere(name, base):
    assert rejected(name, base)
