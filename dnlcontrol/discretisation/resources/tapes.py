"""How large the tape of a one-step problem is, which is made layer by layer by its sweep."""

from __future__ import annotations

import math

from dnlcontrol.problem.problem import ControlProblem

# bytes of the record of one layer besides its numbers [a scalar equation at L = 300,000: 13.7 kB;
# tanh(W x + b): 60 kB, as much again in a Hessian product], and how many arrays of its states it
# holds
RECORD = 40_000
ARRAYS = 10
LARGEST_TAPE = 1 << 30  # bytes of a tape that is kept whole: 26,000 layers of a small equation
SEGMENT_TAPE = 1 << 26  # bytes of a part of a longer one


def layer_bytes(problem: ControlProblem, samples: int, itemsize: int) -> int:
    """Bytes that one layer of so many samples adds to a tape."""
    entries = math.prod(problem.state_shape) + math.prod(problem.integral_shape)
    return RECORD + ARRAYS * samples * entries * itemsize


def taped_layers(problem: ControlProblem, depth: int, samples: int, itemsize: int = 8) -> int:
    """The layers of a tape that are there at one time."""
    one = layer_bytes(problem, samples, itemsize)
    return depth if depth * one <= LARGEST_TAPE else max(1, SEGMENT_TAPE // one)
