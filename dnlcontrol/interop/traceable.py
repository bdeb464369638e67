"""Formulas in a form that torch.export follows with a free number of samples, for ONNX files."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from dnlcontrol import checks
from dnlcontrol.backends.adjoint.sweep.vectorised import Vectorised
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.files.atomic import write_atomic
from dnlcontrol.files.turns import in_turn
from dnlcontrol.interop.equation import constants_of_the_cost
from dnlcontrol.problem.engines import ARITHMETIC, TorchEngine


class TraceableEngine(TorchEngine):
    """PyTorch, around two limits of tracing through vmap.

    ``torch.cat`` fixes the number of samples: arrays are joined by padding each with zeros and
    adding, which is exact. Constants made while tracing have no values: they become buffers of the
    module, made when it is first run. So do numbers that float32 does not hold exactly: the ONNX
    exporter writes a number beside a tensor in float32.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, owner: torch.nn.Module) -> None:
        super().__init__(dtype, device)
        self.owner = owner
        self.binary = {name: self._on_constants(op) for name, op in ARITHMETIC.items()}

    def _on_constants(self, op: Callable[..., Any]) -> Callable[..., Any]:
        return lambda a, b: op(
            *(x if self.owns(x) or float(np.float32(x)) == x else self.asarray(x) for x in (a, b))
        )

    def asarray(self, x: Any) -> Any:
        if self.owns(x):
            return x
        values = np.asarray(x, dtype=float)
        digest = hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()
        name = f"constant_{digest[:16]}"
        if not hasattr(self.owner, name):
            self.owner.register_buffer(name, super().asarray(values), persistent=False)
        return self.owner.get_buffer(name)

    def full(self, shape: tuple[int, ...], value: float) -> Any:
        return self.asarray(value).expand(shape)

    def concat(self, arrays: Sequence[Any], axis: int) -> Any:
        sizes = [int(a.shape[axis]) for a in arrays]
        total = sum(sizes)
        before = 0
        joined = None
        for a, size in zip(arrays, sizes, strict=True):
            last = (0, 0) * (a.ndim - 1 - axis)  # pads are listed from the last axis
            part = torch.nn.functional.pad(a, (*last, before, total - before - size))
            joined, before = part if joined is None else joined + part, before + size
        return joined


def traceable_formulas(
    discrete: DiscreteProblem, device: torch.device, dtype: torch.dtype, owner: torch.nn.Module
) -> Vectorised:
    """The formulas themselves, mapped over samples.

    A dynamics' own batched kernel looks at the number of samples.
    """
    found = Vectorised(discrete, device, dtype, batched=False)
    found.engine = TraceableEngine(dtype, device, owner)
    return found


class TraceableFormula(torch.nn.Module):
    """A traceable network as one graph of PyTorch's basic operations.

    Its controls and buffers lie beside it. The graph is recorded below vmap, with a symbol for
    every size; ``torch.export`` alone records vmap itself, and not every later stage undoes that.
    """

    def __init__(self, network: torch.nn.Module, x0: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        names = tuple(self._values())

        def run(x0: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(network, dict(zip(names, values, strict=True)), (x0,))

        self.graph = make_fx(run, tracing_mode="symbolic")(x0, *self._values().values())

    def _values(self) -> dict[str, torch.Tensor]:
        return {
            k: v.detach()
            for k, v in (*self.network.named_parameters(), *self.network.named_buffers())
        }

    def forward(self, x0: torch.Tensor) -> torch.Tensor:
        return self.graph(x0, *self._values().values())


@in_turn
def export(network: torch.nn.Module, state_shape: tuple[int, ...]) -> torch.export.ExportedProgram:
    """A traceable network with the buffer "nodes" as a program with a free number of samples."""
    values = (*network.parameters(), *network.buffers())
    sizes = {n for v in values for n in v.shape} | set(state_shape)
    # equal sizes would share a symbol
    samples = next(n for n in range(2, 2 + len(sizes) + 1) if n not in sizes)
    x0 = torch.zeros(samples, *state_shape).to(network.get_buffer("nodes"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own calls
        return torch.export.export(
            TraceableFormula(network, x0), (x0,), dynamic_shapes=({0: torch.export.Dim("samples")},)
        )


@in_turn
def write_onnx(
    network: torch.nn.Module, state_shape: tuple[int, ...], path: str | os.PathLike[str]
) -> None:
    """A traceable network as an ONNX file with a free number of samples.

    Raises
    ------
    ImportError : without the extra ``onnx``.
    """
    try:
        import onnx  # noqa: F401  # torch leaves open which one is missing
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "an ONNX file needs onnx and onnxscript; pip install 'dnlcontrol[onnx]'"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        written = torch.onnx.export(
            export(network, state_shape),
            dynamo=True,
            input_names=["x0"],
            output_names=["x"],
            verbose=False,
        )
    assert written is not None  # dynamo=True gives a program
    write_atomic(Path(path), written.model_proto.SerializeToString())


def export_onnx(solution: Any, path: str | os.PathLike[str], head: bool = True) -> None:
    """Write a solution's network as an ONNX file (extra ``onnx``).

    The network is x0 (N, *state) -> prediction (``head``), or x^L. A loss without a head predicts
    x^L itself.

    Raises
    ------
    InputError where the cost reads constants that the file would not hold; ``head=False`` says that
    x^L is wanted.
    """
    network = solution.to_module()
    lost = constants_of_the_cost(solution.problem)
    if head and lost:
        seen = f"a cost of its own with the constants {', '.join(lost)}, which the file has not"
        checks.reject(
            "export_onnx.head", seen, "head=False for x^L alone, or a loss made with dnl.head"
        )
    network.to_onnx(path, head=head and network.has_head)
