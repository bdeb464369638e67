"""A discrete problem's state equation as a torch.nn.Module whose parameters are the controls."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor, Vectorised
from dnlcontrol.checks import InputError
from dnlcontrol.discretisation.discrete import DiscreteProblem, discretise
from dnlcontrol.interop.compiled import key_of
from dnlcontrol.interop.equation import Kept, equation_of, has_head, kept, taken
from dnlcontrol.interop.layers import UnrolledLayers
from dnlcontrol.interop.residual_stack import residual_stack
from dnlcontrol.interop.traceable import export, traceable_formulas, write_onnx
from dnlcontrol.limits.infinite_depth.majorants import Bound, Tail
from dnlcontrol.limits.infinite_depth.stacks import Stack

IMPLICIT = (
    "torch.compile: got layers of the rule 'trapezoid', which are implicit; allowed: a solution by "
    "the rule 'left' (call the module itself)"
)
HEADLESS = (
    "to_onnx: the file ends with x^L, without the loss's head; head=True adds it, head=False says "
    "that it is not wanted"
)
REBUILT = ("discrete", "problem", "_vectorised", "_key")  # not pickled


class Controls(torch.nn.Module):
    """Parameters by control name; any name is allowed, also one that a module has for itself."""

    def __init__(self, values: Mapping[str, ArrayLike]) -> None:
        super().__init__()
        for name, value in values.items():
            self._parameters[name] = torch.nn.Parameter(
                torch.tensor(np.asarray(value), dtype=torch.float64)
            )

    def __getitem__(self, name: str) -> Tensor:
        return self._parameters[name]  # type: ignore[return-value]  # every one was set above

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __contains__(self, name: object) -> bool:
        return name in self._parameters


class Network(torch.nn.Module):
    """x0 (N, *state) -> x^L (N, *state), the layers of the discrete problem:

        x^l = G(t_l, g(t_l, x0), z^l, v^l),    l = 0..L
        z^l = Σ_{s<l} c_s k(t_l, t_s, F(t_s, x^s, v^s), w^{l,s})
              + d_l k(t_l, t_l, F(t_l, x^l, v^l), w^{l,l})

    Where the rule has d_l > 0 (trapezoidal) a layer solves its equation by Newton's method, sample
    by sample, to NaN where that does not settle; derivatives are those of the implicit function,
    first and second ones.

    ``network.controls["W"]`` is a parameter (sites, *shape), packed by column as in
    ``solution.controls["W"].values``. It starts in float64 on the CPU; ``.to(...)`` moves and
    converts as in any module.

    Parameters
    ----------
    discrete : the problem at one depth.
    values : control name -> packed array (sites, *shape).
    head : whether calling the network gives :meth:`predict`, with the loss's affine head, instead
        of x^L.
    recompute : keep only the states and form every column again in the backward pass: memory
        O(L·N·d) instead of O(L²·N·d) for a control on the triangle; first derivatives only.
    traceable : write the layers so that they can be recorded with a free number of samples, for
        :meth:`export`; slower. Only for explicit layers: a file cannot hold a loop that ends when
        it has converged.
    """

    nodes: Tensor
    later: Tensor
    own: Tensor

    def __init__(
        self,
        discrete: DiscreteProblem,
        values: Mapping[str, ArrayLike],
        head: bool = False,
        recompute: bool = False,
        traceable: bool = False,
    ) -> None:
        super().__init__()
        if traceable and discrete.grid.implicit:
            seen = f"layers of the rule {discrete.grid.rule!r}, which are implicit"
            checks.reject(
                "export", seen, "a solution by the rule 'left' (call the module itself in PyTorch)"
            )
        self.discrete, self.problem = discrete, discrete.problem
        self.depth, self.implicit = discrete.depth, discrete.grid.implicit
        self.has_head = has_head(discrete.problem)
        for name, value in (("head", head), ("recompute", recompute), ("traceable", traceable)):
            checks.flag(name, value)
        if head and not self.has_head:
            checks.reject("head", head, "False for a terminal loss that was made without head=")
        self.head = head
        self.recompute = recompute
        self.traceable = traceable
        self.controls = Controls({b.name: values[b.name] for b in discrete.space})
        self.register_buffer("nodes", torch.tensor(discrete.grid.nodes), persistent=False)
        for name, weights in (("later", discrete.grid.later), ("own", discrete.grid.own)):
            self.register_buffer(name, torch.tensor(weights, dtype=torch.float64), persistent=False)
        self._vectorised: tuple[Vectorised, Callable[..., Tensor] | None] | None = None
        self._key = key_of(self)
        self._formulas()
        if traceable:  # meet every constant of the formulas once
            self.states(torch.as_tensor(np.array(discrete.problem.x0[:1])))

    def forward(self, x0: Tensor) -> Tensor:
        """x^L (N, *state), or the prediction where ``head`` was asked for."""
        return self.predict(x0) if self.head else self._last(x0)

    def states(self, x0: Tensor) -> Tensor:
        """x^0..x^L, (L+1, N, *state)."""
        self._check(x0)
        return torch.stack(self._layers(self._values()).states(x0))

    def predict(self, x0: Tensor) -> Tensor:
        """head_W x^L + head_c, (N, outputs); x^L where the loss has no head."""
        x = self._last(x0)
        return (
            x.flatten(1) @ self.controls["head_W"][0].T + self.controls["head_c"][0]
            if self.has_head
            else x
        )

    def final_state(self, x0: Tensor, values: Sequence[Tensor]) -> Tensor:
        """x^L (N, *state) with these values of its controls and of its buffers."""
        return self._layers(values).states(x0)[-1]

    # -- the controls ----------------------------------------------------------------------------
    def guesses(self) -> dict[str, np.ndarray]:
        """The present controls by name, a ``start`` for ``dnlcontrol.solve`` at this depth."""
        return {
            name: self.controls[name].detach().cpu().double().numpy().copy()
            for name in self.controls
        }

    @torch.no_grad()
    def project(self) -> None:
        """Clip the controls to their bounds, as after a step of an optimiser unaware of them."""
        for name in self.controls:
            control, values = self.problem.controls[name], self.controls[name]
            lower, upper = (
                torch.as_tensor(side).to(values) for side in (control.lower, control.upper)
            )
            values.copy_(torch.minimum(torch.maximum(values, lower), upper))

    def as_stack(self, tail: Tail | Bound | None = None) -> Stack:
        """Its layers for the certificates for infinite depth; the head is left out.

        See :func:`dnlcontrol.interop.residual_stack.residual_stack`.
        """
        return residual_stack(self.discrete, self.guesses(), tail)

    def export(self) -> torch.export.ExportedProgram:
        """What calling the network gives, as an exported program with a free number of samples."""
        return export(self._copy(traceable=True), self.problem.state_shape)

    def to_onnx(self, path: str | os.PathLike[str], head: bool | None = None) -> None:
        """What calling the network gives, as an ONNX file (extra ``onnx``).

        The number of samples is free. ``head`` says whether the loss's head is part of it; None is
        as in calling the network, with a UserWarning where that leaves a head out.
        """
        if head and not self.has_head:
            checks.reject("head", head, "False for a terminal loss that was made without head=")
        if head is None and self.has_head and not self.head:
            warnings.warn(HEADLESS, UserWarning, stacklevel=2)
        network = self._copy(traceable=True)
        network.head = self.head if head is None else head
        write_onnx(network, self.problem.state_shape, path)

    def _copy(self, traceable: bool) -> Network:
        values = {name: p.detach().cpu() for name, p in self.controls.named_parameters()}
        return Network(
            self.discrete, values, self.head, self.recompute and not traceable, traceable
        ).to(self.nodes)

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        """Own parameters and the same problem: formulas are functions and cannot be copied."""
        made = self._copy(self.traceable)
        for name, p in made.controls.named_parameters():
            p.requires_grad_(self.controls[name].requires_grad)
        return made.train(self.training)

    def __getstate__(self) -> dict[str, object]:
        """The module's own state and its state equation; neither data nor costs."""
        state = {k: v for k, v in super().__getstate__().items() if k not in REBUILT}
        equation: Kept = kept(equation_of(self.problem))
        return state | {"equation": equation, "rule": self.discrete.grid.rule}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        equation, rule = taken(state.pop("equation")), state.pop("rule")
        self.discrete = discretise(equation.problem(), state["depth"], rule)
        self.problem = self.discrete.problem
        self._vectorised, self._key = None, key_of(self)
        super().__setstate__(state)
        self._formulas()

    # -- pieces ----------------------------------------------------------------------------------
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Network:
        super()._apply(fn, recurse)
        if self.nodes.device.type != "meta":
            self._formulas()  # not while an export is traced
        return self

    def _formulas(self) -> tuple[Vectorised, Callable[..., Tensor] | None]:
        """The stacked formulas and the free term (t, x0 (N, *)) -> (N, *g).

        Both in the module's present precision.
        """
        device, dtype = self.nodes.device, self.nodes.dtype
        if self._vectorised is None or (self._vectorised[0].device, self._vectorised[0].dtype) != (
            device,
            dtype,
        ):
            arguments = self.discrete, device, dtype
            found = (
                traceable_formulas(*arguments, self) if self.traceable else Vectorised(*arguments)
            )
            self._vectorised = found, found.mapped(self.problem.formulas.free_term, (None, 0))
        return self._vectorised

    def _values(self) -> list[Tensor]:
        """What the layers are computed from."""
        return [*(self.controls[name] for name in self.controls), self.nodes, self.later, self.own]

    def _layers(self, values: Sequence[Tensor]) -> UnrolledLayers:
        """The layers with these values."""
        formulas, free = self._formulas()
        controls = dict(zip(self.controls, values, strict=False))
        weights = values[len(controls) :]
        return UnrolledLayers(
            self.discrete,
            formulas,
            free,
            controls,
            nodes=weights[0],
            later=weights[1],
            own=weights[2],
            recompute=self.recompute,
        )

    def _last(self, x0: Tensor) -> Tensor:
        """x^L (N, *state); a single operator to torch.compile."""
        self._check(x0)
        if torch.compiler.is_compiling() and not self.traceable:
            if self.implicit:
                raise InputError(IMPLICIT)
            return torch.ops.dnlcontrol.final_state(self._key, x0, self._values())
        return self._layers(self._values()).states(x0)[-1]

    def _check(self, x0: Any) -> None:
        shape = self.problem.state_shape
        if not isinstance(x0, Tensor):
            checks.reject_type(
                "x0", x0, f"a torch.Tensor of shape (N, {', '.join(map(str, shape))})"
            )
        if tuple(x0.shape[1:]) != shape or x0.ndim != len(shape) + 1:
            checks.reject("x0", f"shape {tuple(x0.shape)}", f"shape (N, *{shape})")
        if x0.dtype != self.nodes.dtype:
            checks.reject(
                "x0",
                x0.dtype,
                f"{self.nodes.dtype}, the module's own (convert one of them with .to)",
            )
        if x0.device != self.nodes.device:
            allowed = (
                f"a tensor on {self.nodes.device}, as the module is (move one of them with .to)"
            )
            checks.reject("x0", f"a tensor on {x0.device}", allowed)
