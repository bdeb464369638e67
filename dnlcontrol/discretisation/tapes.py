"""How large the tape of a one-step problem is, which is made layer by layer by its sweep."""

from __future__ import annotations

import math

from dnlcontrol.problem.problem import ControlProblem

# bytes of the record of one layer besides its numbers, and how many arrays of its states it holds
# [a scalar equation at L = 300,000: 13.7 kB; tanh(W x + b) of 4 and 8 states: 8 to 12 arrays]
RECORD = 14_000
ARRAYS = 10
LARGEST_TAPE = 1 << 30  # bytes of a tape that is kept whole: 75,000 layers of a small equation
SEGMENT_TAPE = 1 << 26  # bytes of a part of a longer one


def layer_bytes(problem: ControlProblem, samples: int, itemsize: int) -> int:
    """Bytes that one layer of so many samples adds to a tape."""
    entries = math.prod(problem.state_shape) + math.prod(problem.integral_shape)
    return RECORD + ARRAYS * samples * entries * itemsize


def tape_bytes(problem: ControlProblem, depth: int, samples: int, itemsize: int = 8) -> int:
    """Bytes of the tapes that are there at one time."""
    whole = depth * layer_bytes(problem, samples, itemsize)
    return whole if whole <= LARGEST_TAPE else SEGMENT_TAPE
