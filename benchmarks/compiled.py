"""The fused C loop of fused_sweep.c, compiled where gcc is, to be compared with."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import dnlcontrol as dnl

SOURCE = Path(__file__).with_name("fused_sweep.c")
# what gcc can do for such a loop on this processor, with its vectors of tanh (libmvec)
FLAGS = ["-Ofast", "-march=native", "-shared", "-fPIC"]
BLOCKS = (64, 50, 32, 25, 16, 8, 4, 2, 1)  # samples of a block: its states stay in cache


def compiler() -> str | None:
    """Where gcc is; None where it is not."""
    return shutil.which("gcc")


class FusedSweep:
    """Value and gradient of dense form C, squared loss to 0, N samples x0 (N, d), in float64."""

    def __init__(self, discrete: dnl.DiscreteProblem) -> None:
        self.discrete = discrete
        self.depth, (self.samples, self.width) = discrete.depth, discrete.problem.x0.shape
        self.block = next(size for size in BLOCKS if self.samples % size == 0)
        self.blocks = [discrete.space.blocks[name] for name in "Wb"]
        layout = self.blocks[0].layout
        self.first = np.array([layout.later(s).start for s in range(self.depth)], dtype=np.int64)
        self.x0 = np.ascontiguousarray(discrete.problem.x0.T)
        self.rooms = np.zeros((2, (self.depth + 1) * self.width * self.block))
        self.call = self._compiled().value_and_gradient
        self.call.restype = ctypes.c_double

    def _compiled(self) -> ctypes.CDLL:
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "fused_sweep.so"
            sizes = [f"-DD={self.width}", f"-DB={self.block}"]
            command = ["gcc", *FLAGS, *sizes, "-o", library, SOURCE, "-lm", "-lmvec"]
            subprocess.run(command, check=True)
            return ctypes.CDLL(str(library))

    def __call__(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        g = np.zeros_like(w)
        vectors = [v[block.part] for v in (w, g) for block in self.blocks]
        arrays = [*vectors[:2], self.first, self.x0, *vectors[2:], *self.rooms]
        pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in arrays]
        return self.call(*pointers, ctypes.c_long(self.depth), ctypes.c_long(self.samples)), g
