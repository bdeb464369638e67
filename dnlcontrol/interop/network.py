"""A discrete problem's state equation as a torch.nn.Module whose parameters are the controls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.backends.adjoint.sweep.implicit_stage import Stage
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor, Tensors, Vectorised, value_and_pull
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.interop.traceable import export, traceable_formulas, write_onnx
from dnlcontrol.problem.formula import Formula

HEAD = ("head_W", "head_c")
# of a column: its triangular samples, what else the kernel reads, what the feature reads
Inputs = tuple[Tensors, Tensors, Tensors]


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
        self.depth, self.markov = discrete.depth, discrete.problem.markov
        self.has_head = discrete.problem.terminal is not None and set(HEAD) <= set(
            discrete.problem.terminal.controls
        )
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
        self._formulas()
        if traceable:  # meet every constant of the formulas once
            self._layers(torch.as_tensor(np.array(discrete.problem.x0[:1])))

    def forward(self, x0: Tensor) -> Tensor:
        """x^L (N, *state), or the prediction where ``head`` was asked for."""
        return self.predict(x0) if self.head else self._layers(x0)[-1]

    def states(self, x0: Tensor) -> Tensor:
        """x^0..x^L, (L+1, N, *state)."""
        return torch.stack(self._layers(x0))

    def predict(self, x0: Tensor) -> Tensor:
        """head_W x^L + head_c, (N, outputs); x^L where the loss has no head."""
        x = self._layers(x0)[-1]
        return (
            x.flatten(1) @ self.controls["head_W"][0].T + self.controls["head_c"][0]
            if self.has_head
            else x
        )

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

    def export(self) -> torch.export.ExportedProgram:
        """What calling the network gives, as an exported program with a free number of samples."""
        return export(self._copy(traceable=True), self.problem.state_shape)

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """What calling the network gives, as an ONNX file (extra ``onnx``).

        The number of samples is free.
        """
        write_onnx(self._copy(traceable=True), self.problem.state_shape, path)

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

    def _layers(self, x0: Tensor) -> list[Tensor]:
        """x^0..x^L; z holds the running sums of the layers that are still to come."""
        self._check(x0)
        formulas, free = self._formulas()
        outer, implicit = self.problem.formulas.outer, self.discrete.grid.own > 0
        first = 1 if self.markov else self.depth + 1
        z = x0.new_zeros(first, x0.shape[0], *self.problem.integral_shape)
        states: list[Tensor] = []
        for l in range(self.depth + 1):
            g = x0 if free is None else free(self.nodes[l], x0)
            shared = self._shared(outer, l) if outer else {}

            def state(
                z: Tensor, l: int = l, g: Tensor = g, shared: dict[str, Tensor] = shared
            ) -> Tensor:
                # a clone, or the graph would keep all of z for this one row
                return (
                    formulas.outer(self.nodes[l], g, z.clone(), shared) if formulas.outer else g + z
                )

            x = (
                self._solved(formulas, l, state, z[0], states[-1] if states else g)
                if implicit[l]
                else state(z[0])
            )
            states.append(x)
            if l < self.depth:
                column = self._column(formulas, l, x)
                z = z + column if self.markov else z[1:] + column
        return states

    def _column(self, formulas: Vectorised, s: int, x: Tensor) -> Tensor:
        """c_s k(t_l, t_s, F(t_s, x), w^{l,s}) for l = s+1..L (Markov: only l = s+1), (m, N, *z)."""
        rows = self.nodes[s + 1 : s + 2] if self.markov else self.nodes[s + 1 :]
        parts = self._inputs(s, own=False)
        names = [list(part) for part in parts]

        def column(x: Tensor, *flat: Tensor) -> Tensor:
            values = iter(flat)
            a, b, c = ({k: next(values) for k in part} for part in names)
            return self.later[s] * self._kernel(formulas, rows, s, x, (a, b, c))

        inputs = (x, *(value for part in parts for value in part.values()))
        return Recomputed.apply(column, *inputs) if self.recompute else column(*inputs)

    def _solved(
        self,
        formulas: Vectorised,
        l: int,
        state: Callable[[Tensor], Tensor],
        z: Tensor,
        guess: Tensor,
    ) -> Tensor:
        """x with x = G(z + d_l k(t_l, t_l, F(t_l, x), w^{l,l}))."""
        inputs, rows = self._inputs(l, own=True), self.nodes[l : l + 1]

        def right(x: Tensor, z: Tensor, inputs: Inputs) -> Tensor:
            return state(z + self.own[l] * self._kernel(formulas, rows, l, x, inputs)[0])

        return Stage(right, (inputs,), implicit=True).solve(guess, z)

    def _kernel(
        self, formulas: Vectorised, rows: Tensor, s: int, x: Tensor, inputs: Inputs
    ) -> Tensor:
        """k(rows, t_s, F(t_s, x), ...), (rows, N, *z)."""
        ts, shared, own = inputs
        time = self.nodes[s]
        return formulas.kernel(
            rows, time, formulas.feature(time, x, own) if formulas.feature else x, ts, shared
        )

    def _inputs(self, s: int, own: bool) -> Inputs:
        """The triangular samples of a column, and what else the kernel and the feature read.

        ``own``: those of the column's diagonal.
        """
        f = self.problem.formulas
        ts = {
            b.name: self.controls[b.name][b.layout.own(s) if own else b.layout.later(s)]
            for b in self.discrete.space
            if b.control.on == "ts" and b.name in f.kernel.reads
        }
        return ts, self._shared(f.kernel, s), self._shared(f.feature, s) if f.feature else {}

    def _shared(self, formula: Formula, l: int) -> dict[str, Tensor]:
        """The path controls at l and the constants that a formula reads."""
        kinds = {k: self.problem.controls[k].on for k in self.controls if k in formula.reads}
        return {k: self.controls[k][l if on == "t" else 0] for k, on in kinds.items() if on != "ts"}

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


class Recomputed(torch.autograd.Function):
    """function(*inputs) of tensors, of which the inputs alone are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(*inputs)
        return function(*inputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Any, ...]:
        _, pull = value_and_pull(ctx.function, *ctx.saved_tensors)
        return None, *pull(cotangent)
