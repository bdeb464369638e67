"""Does the factor τ with the penalty R_L let a DenseNet train alike at every depth?

Two networks with equal layers, x^l = x_0 + tanh(c Σ_{s<l} W^{l,s} * x^s + b^l), and a linear
read-out of the last one:

    scaled   c = τ = 1/L, penalty R_L = (α/2) (‖W‖²_{H¹} + ‖b‖²_{H¹}) and (α/2) |head|²;
             W starts as a smooth function
    plain    c = 1, weight decay (α/2) Σ |w|²;
             W starts independent, with the variance 1/(fan-in of the layer)

trained on cross-entropy by the library's mini-batches (Adam). Every cell takes its rate from one
list: the one with the lowest training loss after a few epochs for seed 0; a diverged run counts as
infinite and stays in the table.

    python benchmarks/14_densenet_images.py [--data PATH] [--train N] [--tiny]
                                            [--out DIR] [--runs DIR]

The digits of scikit-learn are always taken; PATH adds an .npz file, or a directory with CIFAR-10's
binary batches or SVHN's .mat files (see dnl.images). The first N = 2000 training and 1000 test
images are taken and averaged to 8 x 8 pixels; networks have 3 channels. Every trained net is kept
under --runs (default: runs/densenet_images), and a run that was interrupted goes on from there.
Without --tiny the picture goes to docs/images and the table into docs/dense_networks.md.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import experiment
import numpy as np
import torch

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.stochastic import stochastic
from dnlcontrol.files.atomic import write_atomic

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from problems import densenet_images

ROOT = Path(__file__).resolve().parents[1]
ALPHA = 1e-4  # of every penalty, the usual weight decay
NETWORKS = {"scaled": "factor τ, penalty R_L", "plain": "plain, weight decay"}
# with lines ever thinner, so that equal curves are all seen
SHADES = ("#9ecae1", "#4292c6", "#08519c", "#D55E00")
WIDTHS = (5.0, 3.5, 2.0, 1.0)


@dataclass(frozen=True)
class Sizes:
    """How much is trained."""

    depths: tuple[int, ...] = (4, 8, 16, 32)
    train: int = 2000
    test: int = 1000
    side: int = 8
    channels: int = 3
    batch: int = 64
    epochs: int = 10
    pilot: int = 2  # epochs after which the rate is chosen
    seeds: int = 3
    rates: tuple[float, ...] = (3e-2, 1e-2, 3e-3)


TINY = Sizes((1, 2), 40, 20, 4, 3, 16, 2, 1, 2, (1e-2,))


@dataclass(frozen=True)
class Task:
    """One net to train; equal tasks on equal data give equal nets."""

    data: str
    network: str
    depth: int
    seed: int
    rate: float
    epochs: int
    sizes: Sizes

    def name(self) -> str:
        sizes = {
            k: v
            for k, v in asdict(self.sizes).items()
            if k in ("train", "test", "side", "channels", "batch")
        }
        about = json.dumps(
            [self.data, self.network, ALPHA, self.depth, self.seed, self.rate, self.epochs, sizes]
        )
        digest = hashlib.sha256(about.encode()).hexdigest()[:16]
        return f"{self.network}-L{self.depth}-seed{self.seed}-{digest}.json"


def problem(task: Task, data: dnl.Images) -> dnl.ControlProblem:
    plain = task.depth if task.network == "plain" else 0
    return densenet_images.problem(
        data=data,
        samples=None,
        side=task.sizes.side,
        channels=task.sizes.channels,
        plain=plain,
        alpha=ALPHA,
        seed=task.seed,
    )


def trained(task: Task, data: dnl.Images, runs: Path) -> dict[str, Any]:
    """The record of a net: from ``runs`` if it is there, else trained and put there."""
    path = runs / task.name()
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    began = time.process_time()
    record = train(task, data)
    record["seconds"] = time.process_time() - began
    write_atomic(path, json.dumps(record).encode())
    print(
        f"{data.name}, {task.network}, L = {task.depth}, seed {task.seed}, rate {task.rate:g}, "
        f"{task.epochs} epochs: "
        f"loss {record['loss'][-1]:.3f}, {record['seconds']:.0f} s",
        flush=True,
    )
    return record


def train(task: Task, data: dnl.Images) -> dict[str, Any]:
    """Training loss (no penalties) at the start and after each epoch, test accuracy at the end."""
    given = problem(task, data)
    evaluator = Evaluator(dnl.discretise(given, task.depth), dtype="float32")
    space = evaluator.space
    start = space.initial()

    def loss(w: np.ndarray) -> float:
        return evaluator.value(w) - space.penalty(w)

    curve = [loss(start)]
    batches = dnl.MiniBatches(
        task.sizes.batch, task.epochs, task.rate, seed=task.seed, polish=False
    )
    found = stochastic(
        evaluator,
        start,
        dnl.Adam(batches),
        tolerance=1e-8,
        max_iterations=1,
        progress=lambda i: curve.append(loss(i.controls)),
    )
    lost = task.epochs + 1 - len(curve)  # a net that diverged has fewer epochs
    curve = [x if np.isfinite(x) else float("inf") for x in curve] + [float("inf")] * lost
    return {
        "loss": curve,
        "accuracy": accuracy(given, data, task.depth, found.w),
        "size": space.size,
    }


def accuracy(given: dnl.ControlProblem, data: dnl.Images, depth: int, w: np.ndarray) -> float:
    """Share of the test images that the net classifies correctly."""
    side = round(given.state_shape[0] ** 0.5)
    x = data.states(side, given.state_shape[1])[1]
    test = dnl.ControlProblem(name="test", horizon=given.horizon, x0=x, dynamics=given.dynamics)
    parts = dnl.discretise(given, depth).space.split(w)
    last = dnl.simulate(test, depth, {k: parts[k] for k in ("W", "b")})[-1].reshape(len(x), -1)
    scores = last @ parts["head_W"][0].T + parts["head_c"][0]
    return float(np.mean(scores.argmax(1) == data.y_test))


@dataclass(frozen=True)
class Cell:
    """One network at one depth on one data set; curves (seeds, epochs + 1)."""

    data: str
    network: str
    depth: int
    rate: float
    size: int
    curves: np.ndarray
    accuracies: np.ndarray


def cell(data: dnl.Images, network: str, depth: int, sizes: Sizes, runs: Path) -> Cell:
    task = Task(fingerprint(data), network, depth, 0, 0.0, sizes.epochs, sizes)
    rate = sizes.rates[0]
    if len(sizes.rates) > 1:
        pilots = {
            r: trained(replace(task, rate=r, epochs=sizes.pilot), data, runs)["loss"][-1]
            for r in sizes.rates
        }
        rate = min(pilots, key=lambda r: pilots[r])
    records = [
        trained(replace(task, rate=rate, seed=seed), data, runs) for seed in range(sizes.seeds)
    ]
    curves, accuracies = (np.array([r[k] for r in records]) for k in ("loss", "accuracy"))
    return Cell(data.name, network, depth, rate, records[0]["size"], curves, accuracies)


def fingerprint(data: dnl.Images) -> str:
    parts = (data.x_train, data.y_train, data.x_test, data.y_test)
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in parts)).hexdigest()[
        :16
    ]


def change(coarse: Cell, fine: Cell) -> str:
    """The largest difference, over the epochs, of the mean curves of two depths."""
    with np.errstate(invalid="ignore"):
        return f"{np.abs(fine.curves.mean(0) - coarse.curves.mean(0)).max():.4f}"


def table(cells: list[Cell]) -> str:
    """Mean over the seeds, smallest and largest in brackets.

    The change is from the depth in the row above.
    """

    def spread(values: np.ndarray, form: str) -> str:
        return f"{values.mean():{form}} [{values.min():{form}}, {values.max():{form}}]"

    rows = [
        "| data | network | L | parameters | rate | training loss | change of its curve | test "
        "accuracy |",
        "|---|---|--:|--:|--:|---|--:|---|",
    ]
    for before, c in zip([None, *cells], cells, strict=False):
        moved = (
            change(before, c)
            if before and (before.data, before.network) == (c.data, c.network)
            else ""
        )
        rows.append(
            f"| {c.data} | {c.network} | {c.depth} | {c.size} | {c.rate:g} | "
            f"{spread(c.curves[:, -1], '.3f')} "
            f"| {moved} | {spread(c.accuracies, '.3f')} |"
        )
    return "\n".join(rows)


def picture(cells: list[Cell], path: Path) -> None:
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(c.data for c in cells))
    figure = Figure(figsize=(10, 0.6 + 3.6 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 2, sharex=True, sharey="row", squeeze=False)
    depths = sorted({c.depth for c in cells})
    for c in cells:
        axis, i = axes[names.index(c.data), list(NETWORKS).index(c.network)], depths.index(c.depth)
        epochs, values = np.arange(c.curves.shape[1]), np.clip(c.curves, None, 10)
        axis.plot(
            epochs, values.mean(0), color=SHADES[i], linewidth=WIDTHS[i], label=f"L = {c.depth}"
        )
        axis.fill_between(
            epochs, values.min(0), values.max(0), color=SHADES[i], alpha=0.2, linewidth=0
        )
        axis.set_title(f"{c.data}: {NETWORKS[c.network]}")
        if values.min() < 0.1:
            axis.set_yscale("log")
    for row in axes:
        row[0].set_ylabel("training loss")
        row[0].legend(frameon=False, fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
    figure.suptitle(
        "DenseNets on images: mean of three seeds, band from the smallest to the largest (our "
        "experiment)"
    )
    experiment.save(figure, path)


def sets(path: str | None, sizes: Sizes) -> list[dnl.Images]:
    """The digits, and the images of the path."""
    found = [dnl.images("digits")] + ([dnl.images(path)] if path else [])
    return [
        f.first(min(sizes.train, len(f.y_train)), min(sizes.test, len(f.y_test))) for f in found
    ]


def main() -> None:
    parser = experiment.parser()
    parser.add_argument(
        "--data", help="an .npz file, or a directory with CIFAR-10 (binary version) or SVHN (.mat)"
    )
    parser.add_argument("--train", type=int, help="training images at most; default: 2000")
    parser.add_argument(
        "--runs", type=Path, help="where trained nets are kept; default: runs/densenet_images"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    sizes = TINY if given.tiny else Sizes()
    if given.train is not None and given.train < 1:
        parser.error(f"--train: got {given.train}; allowed: an integer >= 1")
    sizes = sizes if given.train is None else replace(sizes, train=given.train)
    try:
        data = sets(given.data, sizes)
    except dnl.InputError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as nowhere:
        runs = given.runs or (Path(nowhere) if given.tiny else ROOT / "runs" / "densenet_images")
        runs.mkdir(parents=True, exist_ok=True)
        cells = [
            cell(d, network, depth, sizes, runs)
            for d in data
            for network in NETWORKS
            for depth in sizes.depths
        ]
    print(table(cells))
    out = experiment.folder(given)
    if out:
        picture(cells, out / "densenet_images.png")
    asked = {"--data": given.data and Path(given.data).name, "--train": given.train}
    options = " ".join(f"{name} {value}" for name, value in asked.items() if value)
    experiment.publish(given, __file__, "dense_networks.md", [table(cells)], options)


if __name__ == "__main__":
    main()
