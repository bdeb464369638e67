"""Does starting (and staying) on the summable set let 50 and 100 layers train on real data?

Plain ReLU nets and residual nets with M = 2 inner layers of constant width between a first layer
and a linear read-out, trained with Adam on cross-entropy. Initialisations: dnl.init.summable; the
same with projection onto the summable set after every step; He; Xavier (both with zero biases).
Every cell takes its learning rate from the same list: the one with the lowest final training loss
for seed 0; a diverged run counts as infinite and stays in the table.

    python benchmarks/06_depth_initialisation.py [--tiny] [--cifar FILE.npz] [--out DIR]

Without --tiny the pictures go to docs/images and the table into docs/depth_certificates.md.
FILE.npz has x_train, y_train, x_test, y_test with images (N, 32, 32, 3) in 0..255; they are
averaged over 4 by 4 pixels.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import experiment
import numpy as np
import torch
from torch import nn

import dnlcontrol as dnl
from dnlcontrol.limits import infinite_depth as certificates

METHODS = ("summable", "summable, projected", "He", "Xavier")
COLOURS = ("#0072B2", "#009E73", "#D55E00", "#CC79A7")
SCHEME = dnl.init.summable(0.5)  # ‖P_n‖, ‖b_n‖ <= n^-1.5
INNER = {"plain": None, "residual": 2}


@dataclass(frozen=True)
class Sizes:
    """How much is trained."""

    width: int = 32
    depths: tuple[int, ...] = (50, 100)
    epochs: int = 10
    batch: int = 128
    seeds: int = 3
    rates: tuple[float, ...] = (1e-2, 3e-3, 1e-3)
    samples: int | None = None


TINY = Sizes(width=6, depths=(4,), epochs=2, batch=64, seeds=2, rates=(1e-3,), samples=128)


@dataclass(frozen=True)
class Data:
    """Standardised inputs and labels.

    ``share`` of the epochs, so that every data set gets about as many steps.
    """

    name: str
    share: float
    x: torch.Tensor
    y: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


def digits() -> Data:
    """scikit-learn's 1797 digits, every fifth for testing."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    test = np.arange(len(x)) % 5 == 0
    return standardised("digits", 1.0, x[~test], y[~test], x[test], y[test])


def cifar(path: str) -> Data:
    """The subset of CIFAR-10 in a file, 4 by 4 pixels averaged: 192 inputs."""
    with np.load(path) as file:
        x, y, x_test, y_test = (file[k] for k in ("x_train", "y_train", "x_test", "y_test"))

    def small(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), 8, 4, 8, 4, 3).mean((2, 4)).reshape(len(images), -1)

    return standardised("CIFAR-10 subset", 0.5, small(x), y, small(x_test), y_test)


def standardised(
    name: str, share: float, x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray
) -> Data:
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    inputs = (torch.tensor((a - mean) / deviation, dtype=torch.float32) for a in (x, x_test))
    labels = (torch.tensor(a, dtype=torch.int64) for a in (y, y_test))
    (a, b), (c, d) = inputs, labels
    return Data(name, share, a, c, b, d)


class Net(nn.Module):
    """First layer, `depth` ReLU layers (or blocks of M = 2), read-out."""

    def __init__(self, inputs: int, width: int, depth: int, inner: int | None) -> None:
        super().__init__()
        self.inner = inner
        self.first, self.readout = nn.Linear(inputs, width), nn.Linear(width, 10)
        self.stack = nn.ModuleList(nn.Linear(width, width) for _ in range(depth * (inner or 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.readout(self.features(torch.relu(self.first(x))))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        if self.inner is None:
            for layer in self.stack:
                x = torch.relu(layer(x))
            return x
        for one, two in zip(self.stack[::2], self.stack[1::2], strict=True):
            x = torch.relu(x + two(torch.relu(one(x))))
        return x


def network(data: Data, kind: str, depth: int, method: str, sizes: Sizes, seed: int) -> Net:
    """First layer and read-out are the same for every method (He and Xavier, by the seed)."""
    torch.manual_seed(seed)
    net = Net(data.x.shape[1], sizes.width, depth, INNER[kind])
    nn.init.kaiming_normal_(net.first.weight, nonlinearity="relu")
    nn.init.xavier_normal_(net.readout.weight)
    for layer in net.stack:
        if method == "He":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif method == "Xavier":
            nn.init.xavier_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    if method.startswith("summable"):
        SCHEME.initialise(net.stack, INNER[kind], seed)
    return net


def train(
    data: Data, kind: str, depth: int, method: str, sizes: Sizes, seed: int, rate: float
) -> tuple[np.ndarray, Net]:
    """Rows (training loss, test accuracy) before training and after each epoch."""
    net = network(data, kind, depth, method, sizes, seed)
    optimiser = torch.optim.Adam(net.parameters(), rate)
    order = torch.Generator().manual_seed(seed)
    x, y = data.x[: sizes.samples], data.y[: sizes.samples]
    curve = [scores(net, data, x, y)]
    epochs = round(data.share * sizes.epochs)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=order).split(sizes.batch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimiser.step()
            if method == "summable, projected":
                SCHEME.project(net.stack, INNER[kind])
        curve.append(scores(net, data, x, y))
        if not np.isfinite(curve[-1][0]):
            curve += [curve[-1]] * (epochs + 1 - len(curve))
            break
    return np.array(curve), net


@torch.no_grad()
def scores(net: Net, data: Data, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    loss = float(nn.functional.cross_entropy(net(x), y))
    return loss, float((net(data.x_test).argmax(1) == data.y_test).float().mean())


def certified(net: Net, kind: str, data: Data) -> float:
    """Median over ten test points of the bound of ‖N_∞ - N_L‖ / ‖N_L‖.

    It holds if the stack went on inside the set.
    """
    W = [layer.weight.detach().double().numpy() for layer in net.stack]
    b = [layer.bias.detach().double().numpy() for layer in net.stack]
    M = INNER[kind]
    if M is not None:
        W, b = ([v[i : i + M] for i in range(0, len(v), M)] for v in (W, b))
    stack = certificates.Stack(W, b, residual=M is not None, tail=SCHEME.tail(M))
    points = torch.relu(net.first(data.x_test[:10])).detach().double().numpy()
    reports = [certificates.certify(stack, point) for point in points]
    return float(np.median([r.bound / r.state_norm if r.state_norm else np.inf for r in reports]))


@dataclass(frozen=True)
class Cell:
    """One method at one depth: curves (seeds, epochs + 1, 2)."""

    kind: str
    depth: int
    method: str
    rate: float
    curves: np.ndarray
    bound: float


def cell(data: Data, kind: str, depth: int, method: str, sizes: Sizes) -> Cell:
    tried = {rate: train(data, kind, depth, method, sizes, 0, rate) for rate in sizes.rates}
    rate = min(tried, key=lambda r: np.nan_to_num(tried[r][0][-1, 0], nan=np.inf))
    curves = [tried[rate][0]]
    curves += [
        train(data, kind, depth, method, sizes, seed, rate)[0] for seed in range(1, sizes.seeds)
    ]
    bound = certified(tried[rate][1], kind, data) if method == "summable, projected" else np.nan
    return Cell(kind, depth, method, rate, np.array(curves), bound)


def table(name: str, cells: list[Cell]) -> str:
    """Mean over the seeds, smallest and largest in brackets."""

    def spread(values: np.ndarray, form: str) -> str:
        return f"{values.mean():{form}} [{values.min():{form}}, {values.max():{form}}]"

    rows = [
        f"| {name} | depth | initialisation | rate | training loss | test accuracy | certified "
        "error |",
        "|---|---|---|---|---|---|---|",
    ]
    for c in cells:
        last = c.curves[:, -1]
        bound = "" if np.isnan(c.bound) else f"{100 * c.bound:.0f} %"
        rows.append(
            f"| {c.kind} | {c.depth} | {c.method} | {c.rate:g} | {spread(last[:, 0], '.3g')} "
            f"| {spread(last[:, 1], '.3f')} | {bound} |"
        )
    return "\n".join(rows)


def picture(cells: list[Cell], name: str, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6), layout="constrained")
    groups = sorted({(c.kind, c.depth) for c in cells})
    axes = figure.subplots(2, len(groups), sharex=True, sharey="row", squeeze=False)
    for column, (kind, depth) in enumerate(groups):
        loss, accuracy = axes[:, column]
        for c in (c for c in cells if (c.kind, c.depth) == (kind, depth)):
            colour, epochs = COLOURS[METHODS.index(c.method)], np.arange(c.curves.shape[1])
            for axis, values in (
                (loss, np.clip(c.curves[..., 0], None, 1e3)),
                (accuracy, c.curves[..., 1]),
            ):
                axis.plot(epochs, values.mean(0), color=colour, label=c.method)
                axis.fill_between(
                    epochs, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0
                )
        loss.set(title=f"{kind}, depth {depth}", yscale="log")
        accuracy.set(xlabel="epoch", ylim=(0, 1))
    least = min(float(np.nanmin(c.curves[..., 0])) for c in cells)
    axes[0, 0].set(ylabel="training loss", ylim=(max(0.7 * least, 1e-4), 20))
    axes[1, 0].set_ylabel("test accuracy")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(METHODS),
        frameon=False,
    )
    figure.suptitle(
        f"{name}: mean of the seeds, band from the smallest to the largest (our experiment)"
    )
    experiment.save(figure, path)


def main() -> None:
    parser = experiment.parser()
    parser.add_argument("--cifar", help="an .npz file with a subset of CIFAR-10")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sizes = TINY if given.tiny else Sizes()
    sets = [digits()] + ([cifar(given.cifar)] if given.cifar else [])
    tables = []
    for data in sets:
        began = time.perf_counter()
        cells = [
            cell(data, kind, depth, method, sizes)
            for kind in INNER
            for depth in sizes.depths
            for method in METHODS
        ]
        tables.append(table(data.name, cells))
        print(tables[-1], f"\n{time.perf_counter() - began:.0f} s\n", flush=True)
        out = experiment.folder(given)
        if out:
            suffix = "" if data.name == "digits" else "_cifar"
            picture(cells, data.name, out / f"depth_initialisation{suffix}.png")
    options = "--cifar FILE.npz" if given.cifar else ""
    experiment.publish(given, __file__, "depth_certificates.md", tables, options)


if __name__ == "__main__":
    main()
