"""A stack from a torch.nn.Module.

Its forward is recorded by torch.fx and read as plain layers and residual blocks.

    activation(affine(x))                               a plain layer
    activation(x + affine(activation(... affine(x))))   a residual block; x is the input or a
                                                        layer's output
"""

from __future__ import annotations

import copy
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np

from dnlcontrol import checks
from dnlcontrol.limits.infinite_depth.majorants import Bound, Tail
from dnlcontrol.limits.infinite_depth.operators import ConvolutionOperator, as_operator
from dnlcontrol.limits.infinite_depth.stacks import Layer, Stack

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

# W and b of an affine map
AffineMap = tuple[np.ndarray | ConvolutionOperator, np.ndarray | None]
ALLOWED = (
    "Linear, Conv2d (odd kernel, stride 1, zero padding to the same size), BatchNorm after them "
    "in eval mode, ReLU, "
    "LeakyReLU, Flatten, and sums x + branch"
)
SUMS = (operator.add, operator.iadd)
TRIED = 4  # random inputs at which the stack has to agree with the module
UNIT = 2.0**-29  # rounding of float64 over that of float32
LUCK = 1e3  # how much luckier than float64 the float32 rounding of a few outputs is allowed to be
CAP = 1e-4  # a disagreement in the fourth digit is never rounding


@runtime_checkable
class Stacked(Protocol):
    """A module that knows its layers: the network of a solution."""

    def as_stack(self, tail: Tail | Bound | None = None) -> Stack:
        """Its layers."""
        ...


@dataclass(frozen=True, eq=False)
class Value:
    """What the recorded forward knows of one intermediate result.

    kind : "input", "affine", "active" (after an activation) or "sum" (x + branch).
    before : what it was made from; of a sum, x.
    maps : the affine map (W, b), or those of the branch in order.
    slopes : of the activation, or those inside the branch.
    """

    kind: str
    name: str
    before: Value | None = None
    maps: tuple[AffineMap, ...] = ()
    slopes: tuple[float, ...] = ()


def from_module(
    module: nn.Module,
    *,
    input_size: tuple[int, int] | None = None,
    tail: Tail | Bound | None = None,
) -> Stack:
    """The layers of a torch module in the order in which its forward applies them.

    Its parameters are copied.

    Parameters
    ----------
    module : torch.nn.Module. Its leaves are Linear or Conv2d, each followed by ReLU or LeakyReLU
        (also as functions and methods); a sum x + branch before an activation makes a residual
        block, whose branch ends with Linear or Conv2d. BatchNorm in eval mode joins the affine
        layer before it; Flatten, Identity and Dropout in eval mode are passed over; a last Linear
        without an activation is a read-out and is left out of the stack (it is not a ReLU layer).
        Or the network of a solution, ``solution.to_module()``, whose layers are x + c σ(K x + b): a
        stack without outer activations.
    input_size : (height, width) of the images, needed for Conv2d.
    tail : declared majorants beyond the last layer.

    Raises
    ------
    InputError : another operation, two affine layers without an activation between them, a sum that
        is not of this form, activations of different slopes, a forward that depends on the values
        or takes several inputs, an operation in place on what is used again; a stack that is not
        the module at seeded random inputs.

    >>> import torch
    >>> class Block(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.one, self.two = torch.nn.Linear(3, 5), torch.nn.Linear(5, 3)
    ...
    ...     def forward(self, x):
    ...         return torch.relu(x + self.two(torch.relu(self.one(x))))
    >>> stack = from_module(
    ...     torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), Block(), Block())
    ... )
    >>> stack.depth, stack.residual, [type(stack.layer(n)).__name__ for n in (1, 2, 3)]
    (3, True, ['Layer', 'Block', 'Block'])
    """
    from torch import fx, nn

    if not isinstance(module, nn.Module):
        checks.reject_type("module", module, "a torch.nn.Module")
    if isinstance(module, Stacked):
        return module.as_stack(tail)
    try:
        graph = fx.symbolic_trace(module).graph
    except Exception as error:  # whatever the user's forward raises on a symbol
        seen = f"a forward that torch.fx cannot record ({error})"
        checks.reject("module", seen, "one without branches on the values")
    inputs = [node.name for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        checks.reject("module", f"a forward of {len(inputs)} inputs {inputs}", "one input x")
    leaves: dict[str, nn.Module] = dict(module.named_modules())
    values: dict[fx.Node, Value] = {}
    for node in graph.nodes:
        if node.op == "output":
            last = _value(node, node.args[0], values)
            stack = _stack(module, last, tail)
            _agree(module, stack, last)
            return stack
        if node.op == "placeholder":
            values[node] = Value("input", "x")
            continue
        values[node] = _next(node, leaves, values, input_size)
        _in_place(node, leaves, values)
    raise AssertionError("a graph ends with its output")


def _value(node: fx.Node, argument: object, values: dict[fx.Node, Value]) -> Value:
    from torch import fx

    if not isinstance(argument, fx.Node) or argument not in values:
        checks.reject(f"module at {node.name!r}", repr(argument), ALLOWED)
    return values[argument]


def _in_place(node: fx.Node, leaves: dict[str, nn.Module], values: dict[fx.Node, Value]) -> None:
    """Refuse an operation in place whose argument, or a view of it, is used again.

    After the operation each of them holds the result.
    """
    leaf = leaves.get(str(node.target)) if node.op == "call_module" else None
    name = getattr(node.target, "__name__", str(node.target))
    flag = (
        getattr(leaf, "inplace", False)
        or node.kwargs.get("inplace", False)
        or any(a is True for a in node.args[1:])
    )
    if not (flag or node.target is operator.iadd or (leaf is None and name.endswith("_"))):
        return
    changed = _value(node, node.args[0], values)
    order = list(node.graph.nodes)
    later = set(order[order.index(node) + 1 :])
    for other, value in values.items():
        if value is changed and other is not node and later & set(other.users):
            what = f"an operation in place on {other.name!r}, which is used again"
            checks.reject(f"module at {node.name!r}", what, "one that is not in place")


def _agree(module: nn.Module, stack: Stack, last: Value) -> None:
    """The stack equals the module at seeded random inputs up to rounding.

    The read-out is included if there is one. Rounding errors are proportional to the unit: those of
    the module in float64 are estimated by UNIT times its change from float64 to float32, which sees
    the conditioning of this very net; LUCK allows for errors that cancel by chance.
    """
    x, fine, rough = _tried(module, stack)
    got = stack(x.reshape(TRIED, -1))
    if last.kind == "affine":
        W, b = as_operator("module", last.maps[0][0]), last.maps[0][1]
        got = W.apply(got) + W.bias("module", b)
    if got.shape != fine.shape:
        checks.reject(
            "module",
            f"outputs of {fine.shape[1]} numbers, by its recorded layers {got.shape[1]}",
            ALLOWED,
        )
    scale = max(np.abs(a).max() for a in (x, fine, got))
    allowed = np.fmin(LUCK * UNIT * (np.abs(fine - rough).max() + 2.0**-23 * scale), CAP * scale)
    if not np.abs(got - fine).max() <= allowed:
        seen = (
            "a forward that differs from its recorded layers by "
            f"{np.abs(got - fine).max():.3g} at a random input"
        )
        checks.reject(
            "module",
            seen,
            f"at most {allowed:.3g}, the rounding (no hooks, no hidden operations in place)",
        )


def _tried(module: nn.Module, stack: Stack) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seeded random inputs (TRIED, *shape) and the module's outputs (TRIED, d) there.

    The outputs in float64 and in float32.
    """
    import torch

    first = stack.layer(1)
    weight = first.weight if isinstance(first, Layer) else first.inner[0].weight
    shape = (
        (weight.filters.shape[1], *weight.size)
        if isinstance(weight, ConvolutionOperator)
        else (stack.width,)
    )
    x = np.random.default_rng(0).standard_normal((TRIED, *shape))
    try:
        ours = copy.deepcopy(module).cpu().eval()
        with torch.no_grad():
            fine = ours.double()(torch.tensor(x)).numpy()
            rough = ours.float()(torch.tensor(x, dtype=torch.float32)).double().numpy()
    except Exception as error:  # whatever the user's forward raises
        checks.reject(
            "module",
            f"a forward that fails on an input of shape {x.shape} ({error})",
            "one that runs",
        )
    return x, fine.reshape(TRIED, -1), rough.reshape(TRIED, -1)


def _next(
    node: fx.Node,
    leaves: dict[str, nn.Module],
    values: dict[fx.Node, Value],
    size: tuple[int, int] | None,
) -> Value:
    """The value of a recorded operation."""
    from torch import nn

    here = f"module at {node.name!r}"
    leaf = leaves.get(str(node.target)) if node.op == "call_module" else None
    what = (
        type(leaf).__name__
        if leaf is not None
        else getattr(node.target, "__name__", str(node.target))
    )
    if len(node.args) == 2 and (node.target in SUMS or what in ("add", "add_")):
        if node.kwargs:
            checks.reject(here, f"a sum with {dict(node.kwargs)}", "x + branch, both as they are")
        return _sum(node.name, *(_value(node, a, values) for a in node.args))
    if not node.args:
        checks.reject(here, what, ALLOWED)
    x = _value(node, node.args[0], values)
    slope = _slope(node, leaf, what)
    if slope is not None:
        if x.kind not in ("affine", "sum"):
            checks.reject(here, what, "an activation after Linear, Conv2d or a sum")
        return Value("active", node.name, x, slopes=(slope,))
    if isinstance(leaf, (nn.Linear, nn.Conv2d)):
        if x.kind not in ("input", "active"):
            checks.reject(here, what, "an activation between two affine layers and after a sum")
        return Value("affine", node.name, x, (_affine(here, leaf, size),))
    if isinstance(leaf, (nn.BatchNorm1d, nn.BatchNorm2d)) and x.kind == "affine":
        return Value("affine", node.name, x.before, (_normalised(here, leaf, *x.maps[0]),))
    if isinstance(leaf, nn.Identity) or (isinstance(leaf, nn.Dropout) and not leaf.training):
        return x
    first = (
        leaf.start_dim
        if isinstance(leaf, nn.Flatten)
        else (*node.args[1:], node.kwargs.get("start_dim", 0))[0]
    )
    if (isinstance(leaf, nn.Flatten) or what == "flatten") and first == 1:
        return x
    checks.reject(here, what, ALLOWED)


def _slope(node: fx.Node, leaf: nn.Module | None, what: str) -> float | None:
    """The slope of an activation; None for anything else."""
    from torch import nn

    if isinstance(leaf, nn.ReLU) or (leaf is None and what in ("relu", "relu_")):
        return 0.0
    if isinstance(leaf, nn.LeakyReLU):
        return float(leaf.negative_slope)
    if leaf is None and what in ("leaky_relu", "leaky_relu_"):
        slope = (*node.args[1:2], node.kwargs.get("negative_slope", 0.01))[0]
        return float(cast("float", slope))
    return None


def _sum(name: str, one: Value, two: Value) -> Value:
    """x + branch in either order: x is the value that the branch starts from."""
    for x, end in ((one, two), (two, one)):
        steps: list[Value] = []
        value: Value | None = end
        while value is not None and value is not x and value.kind in ("affine", "active"):
            steps.append(value)
            value = value.before
        if value is x and x.kind in ("input", "active") and steps and steps[0].kind == "affine":
            maps = tuple(m for step in reversed(steps) for m in step.maps)
            slopes = tuple(a for step in steps for a in step.slopes)
            return Value("sum", name, x, maps, slopes)
    allowed = (
        "x + branch, x the input or a layer's output, the branch made from x and ending "
        "with Linear or Conv2d"
    )
    checks.reject(f"module at {name!r}", f"a sum of {one.name!r} and {two.name!r}", allowed)


def _stack(module: nn.Module, last: Value, tail: Tail | Bound | None) -> Stack:
    """The stack of the values on the way from the input to the output."""
    if last.kind == "sum":
        checks.reject(
            f"module at {last.name!r}",
            "a sum without an activation after it",
            "activation(x + branch)",
        )
    layers: list[Value] = []
    slopes: set[float] = set()
    value = last.before if last.kind == "affine" else last
    while value is not None and value.kind == "active":
        layer = value.before
        assert layer is not None
        slopes |= {*value.slopes, *layer.slopes}
        layers.append(layer)
        value = layer.before
    if not layers:
        checks.reject(
            "module", type(module).__name__, f"a layer with an activation; made of {ALLOWED}"
        )
    if len(slopes) > 1:
        checks.reject(
            "module", f"activations of slopes {sorted(slopes)}", "one slope for all layers"
        )
    layers.reverse()
    blocks = [layer.kind == "sum" for layer in layers]
    weights, biases = ([_parts(layer, i) for layer in layers] for i in (0, 1))
    return Stack(weights, biases, residual=any(blocks), slope=slopes.pop(), tail=tail)


def _parts(layer: Value, i: int) -> Any:
    parts = [m[i] for m in layer.maps]
    return parts if layer.kind == "sum" else parts[0]


def _affine(name: str, leaf: nn.Linear | nn.Conv2d, size: tuple[int, int] | None) -> AffineMap:
    """Weight and bias as float64 arrays."""
    from torch import nn

    weight, bias = _read(leaf.weight), None if leaf.bias is None else _read(leaf.bias)
    if isinstance(leaf, nn.Linear):
        return weight, bias
    kernel = weight.shape[2:]
    same = leaf.padding == "same" or tuple(leaf.padding) == tuple(k // 2 for k in kernel)
    plain = (
        tuple(leaf.stride) == (1, 1) == tuple(leaf.dilation)
        and leaf.groups == 1
        and leaf.padding_mode == "zeros"
    )
    if not (same and plain and all(k % 2 for k in kernel)):
        checks.reject(
            name,
            repr(leaf),
            "odd kernel, stride 1, dilation 1, groups 1, zero padding to the same size",
        )
    if size is None:
        checks.reject("input_size", None, "(height, width), for Conv2d")
    return ConvolutionOperator(weight, tuple(size)), bias


def _normalised(
    name: str,
    leaf: nn.BatchNorm1d | nn.BatchNorm2d,
    weight: np.ndarray | ConvolutionOperator,
    bias: np.ndarray | None,
) -> AffineMap:
    """BatchNorm after W x + b, g (u - μ)/sqrt(v + ε) + h per channel: an affine map again."""
    if leaf.training or leaf.running_mean is None or leaf.running_var is None:
        checks.reject(
            name, f"{type(leaf).__name__} that uses the batch", "eval mode with running statistics"
        )
    scale = 1 / np.sqrt(_read(leaf.running_var) + leaf.eps)
    shift = -_read(leaf.running_mean) * scale
    if leaf.affine:
        scale, shift = _read(leaf.weight) * scale, _read(leaf.weight) * shift + _read(leaf.bias)

    def scaled(rows: np.ndarray) -> np.ndarray:
        return rows * scale.reshape(-1, *(1,) * (rows.ndim - 1))

    bias = shift if bias is None else scaled(bias) + shift
    if isinstance(weight, ConvolutionOperator):
        return ConvolutionOperator(scaled(weight.filters), weight.size), bias
    return scaled(weight), bias


def _read(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)
