"""Readers of labelled images on small files of each format, and the DenseNet experiment on them."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import dnlcontrol as dnl

ROOT = Path(__file__).parents[2]
RECORD = 3073  # bytes of a CIFAR-10 record


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def write_cifar(folder: Path, rng, records: int = 4) -> dict[str, np.ndarray]:
    batches = {}
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        batch = rng.integers(0, 256, (records, RECORD), dtype=np.uint8)
        batch[:, 0] = rng.integers(0, 10, records)
        batch.tofile(folder / f"{name}.bin")
        batches[name] = batch
    return batches


def write_svhn(folder: Path, rng, **change) -> dict[str, dict]:
    from scipy.io import savemat

    parts = {}
    for part, count in (("train", 10), ("test", 3)):
        made = {
            "X": rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8),
            "y": (1 + np.arange(count, dtype=np.uint8) % 10)[:, None],
        } | change
        savemat(folder / f"{part}_32x32.mat", made)
        parts[part] = made
    return parts


def arrays(rng, **change) -> dict[str, np.ndarray]:
    made = {
        "x_train": rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8),
        "y_train": np.arange(20) % 10,
        "x_test": rng.integers(0, 256, (10, 8, 8, 3), dtype=np.uint8),
        "y_test": np.arange(10),
    }
    return made | change


# -- formats -------------------------------------------------------------------------------------
def test_cifar_batches(tmp_path, rng):
    """Record n is its label, then the red, green and blue planes row by row."""
    batches = write_cifar(tmp_path, rng)
    data = dnl.images(tmp_path)
    assert data.name == "CIFAR-10"
    assert data.classes[3] == "cat"
    assert len(data.classes) == 10
    assert data.x_train.shape == (20, 32, 32, 3)
    assert data.x_test.shape == (4, 32, 32, 3)
    record = batches["data_batch_2"][1]  # training image 5
    assert data.y_train[5] == record[0]
    for channel, row, column in ((0, 0, 0), (1, 3, 7), (2, 31, 30)):
        assert (
            data.x_train[5, row, column, channel] == record[1 + 1024 * channel + 32 * row + column]
        )
    np.testing.assert_array_equal(data.y_test, batches["test_batch"][:, 0])


def test_svhn_files(tmp_path, rng):
    """X (height, width, channel, image); the label 10 is the digit 0."""
    parts = write_svhn(tmp_path, rng)
    data = dnl.images(str(tmp_path))
    assert data.name == "SVHN"
    assert data.classes == tuple("0123456789")
    np.testing.assert_array_equal(data.y_train, [1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
    np.testing.assert_array_equal(data.x_test[2], parts["test"]["X"][..., 2])


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_npz_file(tmp_path, rng, channels):
    change = {}
    if channels is not None:
        change = {k: rng.random((n, 4, 6, channels)) for k, n in (("x_train", 20), ("x_test", 10))}
    np.savez(tmp_path / "a.npz", **arrays(rng, **change), classes=np.array(list("abcdefghij")))
    data = dnl.images(tmp_path / "a.npz")
    assert data.name == "a"
    assert data.classes == tuple("abcdefghij")
    assert data.x_train.shape == (20, *((8, 8, 3) if channels is None else (4, 6, channels)))
    np.savez(
        tmp_path / "grey.npz",
        **arrays(rng, x_train=np.ones((20, 4, 4)), x_test=np.ones((10, 4, 4))),
    )
    grey = dnl.images(tmp_path / "grey.npz")
    assert grey.x_train.shape == (20, 4, 4, 1)
    assert grey.classes == tuple("0123456789")


def test_digits():
    pytest.importorskip("sklearn")
    data = dnl.images()
    assert (data.x_train.shape, data.x_test.shape) == ((1437, 8, 8, 1), (360, 8, 8, 1))
    assert set(data.y_train) == set(data.y_test) == set(range(10))


def test_states_are_block_means_standardised_by_the_training_images(rng):
    data = dnl.Images(
        "a",
        *(arrays(rng)[k] for k in ("x_train", "y_train", "x_test", "y_test")),
        tuple("0123456789"),
    )
    train, test = data.states(4, 5)
    assert train.shape == (20, 16, 5)
    assert test.shape == (10, 16, 5)
    # 320 numbers of size 1 to rounding
    np.testing.assert_allclose(train[..., :3].mean((0, 1)), 0, atol=1e-14)
    np.testing.assert_allclose(train[..., :3].std((0, 1)), 1, rtol=1e-13)
    assert not train[..., 3:].any()
    assert not test[..., 3:].any()
    block = data.x_test[7, 2:4, 4:6, 1].mean()  # row 1, column 2 of the 4 x 4 image
    means = data.x_train.reshape(20, 4, 2, 4, 2, 3).mean((2, 4))[..., 1]
    assert test[7, 1 * 4 + 2, 1] == pytest.approx((block - means.mean()) / means.std(), rel=1e-13)
    flat = dnl.Images(
        "b",
        np.ones((2, 2, 2, 1)),
        np.zeros(2, int),
        np.ones((1, 2, 2, 1)),
        np.zeros(1, int),
        ("a",),
    )
    assert not flat.states(2, 1)[0].any()  # a constant channel is not divided by 0
    few = data.first(5, 2)
    assert few.x_train.shape[0] == len(few.y_train) == 5
    assert len(few.x_test) == len(few.y_test) == 2


# -- what is wrong is named ----------------------------------------------------------------------
def broken_cifar(kind):
    def make(folder, rng):
        write_cifar(folder, rng)
        batch = folder / "data_batch_3.bin"
        raw = batch.read_bytes()
        if kind == "missing":
            batch.unlink()
        elif kind == "pickles":
            for path in folder.iterdir():
                path.rename(path.with_suffix(""))
        else:
            batch.write_bytes(
                {"cut": raw[:-7], "short": raw[:RECORD], "empty": b"", "label": b"\x0b" + raw[1:]}[
                    kind
                ]
            )
        return folder

    return make


def broken_svhn(kind):
    def make(folder, rng):
        change = {
            "shape": {"X": np.zeros((32, 32, 3, 2), np.uint8)},
            "label": {"y": np.full(10, 11)[:, None]},
            "keys": {"y": np.zeros((0, 0))},
        }
        write_svhn(folder, rng)
        if kind in change:
            from scipy.io import savemat

            savemat(
                folder / "train_32x32.mat",
                {"X": np.zeros((32, 32, 3, 10), np.uint8), **change[kind]},
            )
        raw = (folder / "test_32x32.mat").read_bytes()
        if kind == "cut":
            (folder / "test_32x32.mat").write_bytes(raw[: len(raw) // 2])
        elif kind == "text":
            (folder / "test_32x32.mat").write_text("not a MATLAB file")
        elif kind == "missing":
            (folder / "test_32x32.mat").unlink()
        return folder

    return make


def broken_npz(kind):
    def make(folder, rng):
        path = folder / "a.npz"
        change = {
            "shape": {"x_train": np.zeros((20, 8))},
            "nan": {"x_train": np.full((20, 8, 8, 3), np.nan)},
            "rows": {"y_test": np.arange(4)},
            "label": {"y_train": np.full(20, -1)},
            "half": {"y_test": np.full(10, 0.5)},
            "parts": {"x_test": np.zeros((10, 4, 4, 3))},
            "classes": {"classes": np.array(["a", "b"])},
            "text": {"x_train": np.full((20, 2, 2), "a")},
            "pickle": {"x_train": np.array([{}] * 20)},
        }
        made = arrays(rng, **change.get(kind, {}))
        if kind == "missing":
            del made["x_test"]
        np.savez(path, **made)
        if kind == "cut":
            path.write_bytes(path.read_bytes()[:-100])
        elif kind == "damaged":
            raw = bytearray(path.read_bytes())
            raw[200:300] = bytes(100)
            path.write_bytes(raw)
        elif kind == "foreign":
            path.write_text("x,y")
        elif kind == "array":
            with open(path, "wb") as file:
                np.save(file, np.zeros(3))
        return path

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda folder, rng: folder / "nothing",
            r"nothing'\): got no such file or directory; allowed: 'digits'; an .npz",
        ),
        (lambda folder, rng: folder, r"got holds nothing; allowed: .*CIFAR-10.*SVHN"),
        (
            broken_cifar("missing"),
            r"got without data_batch_3.bin; allowed: all of data_batch_1.bin",
        ),
        (
            broken_cifar("pickles"),
            r"got holds the Python version of CIFAR-10; allowed: .*binary version of CIFAR-10",
        ),
        (
            broken_cifar("cut"),
            r"data_batch_3.bin'\): got 12285 bytes; allowed: .*multiple of 3073 .* cut off",
        ),
        (broken_cifar("empty"), r"data_batch_3.bin'\): got 0 bytes"),
        (
            broken_cifar("short"),
            r"data_batch_3.bin'\): got 1 images; allowed: 4, as in the other batches",
        ),
        (broken_cifar("label"), r"data_batch_3.bin'\): got a label 11; allowed: labels 0..9"),
        (
            broken_svhn("missing"),
            r"got without test_32x32.mat; allowed: all of train_32x32.mat, test_32x32.mat",
        ),
        (broken_svhn("cut"), r"test_32x32.mat'\): got .*; allowed: a MATLAB file .* not cut off"),
        (broken_svhn("text"), r"test_32x32.mat'\): got .*; allowed: a MATLAB file"),
        (
            broken_svhn("shape"),
            r"train_32x32.mat'\): got X of shape \(32, 32, 3, 2\), y of shape \(0,\);",
        ),
        (
            broken_svhn("keys"),
            r"train_32x32.mat'\): got X of shape \(32, 32, 3, 10\), y of shape \(0, 0\);",
        ),
        (broken_svhn("label"), r"train_32x32.mat'\): got labels 11..11; allowed: labels 1..10"),
        (
            broken_npz("missing"),
            r"a.npz'\): got without x_test; allowed: an .npz file with x_train",
        ),
        (
            broken_npz("cut"),
            r"a.npz'\): got ValueError: not an archive, or one that is cut off; "
            "allowed: a whole .npz",
        ),
        (
            broken_npz("foreign"),
            r"a.npz'\): got ValueError: not an archive, or one that is cut off",
        ),
        (broken_npz("array"), r"a.npz'\): got ValueError: not an archive, or one that is cut off"),
        (broken_npz("damaged"), r"a.npz'\): got .*; allowed: a whole .npz file"),
        (broken_npz("pickle"), r"a.npz'\): got ValueError: .*pickle.*; allowed: .*without pickles"),
        (broken_npz("text"), r"x_train of shape \(20, 2, 2, 1\), dtype <U1"),
        (
            broken_npz("shape"),
            r"x_train of shape \(20, 8\).*allowed: finite numbers of shape \(N, height",
        ),
        (broken_npz("nan"), r"x_train of shape .*allowed: finite numbers"),
        (broken_npz("rows"), r"y_test of shape \(4,\).*for 10 images; allowed: one label"),
        (broken_npz("label"), r"y_train .*allowed: one label 0, 1"),
        (broken_npz("half"), r"y_test .*allowed: one label 0, 1"),
        (broken_npz("parts"), r"training images \(8, 8, 3\), test images \(4, 4, 3\)"),
        (broken_npz("classes"), r"label 9 for 2 classes"),
    ],
)
def test_broken_files_are_named(tmp_path, rng, make, message):
    path = make(tmp_path, rng)
    with pytest.raises(dnl.InputError, match=message) as told:
        dnl.images(path)
    assert str(tmp_path) in str(told.value)


def test_bad_sizes_are_named(rng):
    data = dnl.Images(
        "a",
        *(arrays(rng)[k] for k in ("x_train", "y_train", "x_test", "y_test")),
        tuple("0123456789"),
    )
    for call, message in (
        (lambda: dnl.images(3), "images: got 3"),
        (lambda: data.states(3, 3), "side: got 3; allowed: a common divisor of the images' 8 x 8"),
        (lambda: data.states(16, 3), "side: got 16"),
        (lambda: data.states(4, 2), "channels: got 2; allowed: at least the images' 3"),
        (lambda: data.first(21), "train: got 21; allowed: at most 20"),
        (lambda: data.first(test=0), "test: got 0"),
    ):
        with pytest.raises(dnl.InputError, match=message):
            call()


# -- the problem and the experiment --------------------------------------------------------------
def test_the_plain_network_is_a_densenet_without_the_step():
    """x^l = x_0 + tanh(Σ W * x^s + b), the penalty (α/2) Σ w², a start of variance 1/(fan-in)."""
    pytest.importorskip("sklearn")
    import torch

    from problems import densenet_images

    L, c = 5, 3
    problem = densenet_images.problem(samples=6, side=4, channels=c, plain=L, alpha=0.25, seed=1)
    discrete = dnl.discretise(problem, L)
    w = discrete.space.initial()
    assert discrete.space.penalty(w) == pytest.approx(0.125 * float(w @ w), rel=1e-14)
    W, layout = discrete.space.split(w)["W"], discrete.space.blocks["W"].layout
    x = dnl.simulate(problem, L)
    image = [torch.as_tensor(np.moveaxis(a, -1, -2).reshape(6, c, 4, 4)) for a in x]
    for l in range(1, L + 1):
        filters = np.concatenate(
            [W[layout.index(l, s)].reshape(c, 3, 3, c).transpose(0, 3, 1, 2) for s in range(l)], 1
        )
        # 9·c·L entries, so that the sample variance has a relative deviation of about √(2 /
        # (9·c·c·l))
        assert filters.var() * 9 * c * l == pytest.approx(1, abs=4 * np.sqrt(2 / (9 * c * c * l)))
        mixed = torch.conv2d(torch.cat(image[:l], 1), torch.as_tensor(filters), padding=1)
        np.testing.assert_allclose(image[l], image[0] + torch.tanh(mixed), rtol=0, atol=1e-12)


def test_the_scaled_problem_starts_alike_at_every_depth():
    """One function of (t, s) at every depth: states at T differ by O(1/L), which halves."""
    pytest.importorskip("sklearn")
    from problems import densenet_images

    problem = densenet_images.problem(samples=6, side=4, channels=2)
    ends = [dnl.simulate(problem, L)[-1] for L in (16, 32, 64)]
    first, second = (np.abs(b - a).max() for a, b in pairwise(ends))
    assert second < 0.65 * first


def run(script_arguments, **options):
    command = [
        sys.executable,
        "benchmarks/14_densenet_images.py",
        "--tiny",
        *map(str, script_arguments),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)


def test_the_experiment_runs_at_a_tiny_size_and_goes_on_after_a_stop(tmp_path, rng):
    pytest.importorskip("sklearn"), pytest.importorskip("matplotlib")
    for name in ("cifar", "runs", "out"):
        (tmp_path / name).mkdir()
    write_cifar(tmp_path / "cifar", rng, 16)
    arguments = [
        "--data",
        tmp_path / "cifar",
        "--runs",
        tmp_path / "runs",
        "--out",
        tmp_path / "out",
    ]
    first = run(arguments, check=True).stdout
    assert first.count("epochs: loss") == 16
    assert first.count("| CIFAR-10 | plain | 2 |") == 1
    assert (tmp_path / "out" / "densenet_images.png").exists()
    kept = sorted((tmp_path / "runs").iterdir())
    assert len(kept) == 16
    kept[3].unlink()
    second = run(arguments, check=True).stdout
    assert second.count("epochs: loss") == 1  # the net that was not there, and it is the same net
    assert second[second.index("| data |") :] == first[first.index("| data |") :]


def test_the_experiment_says_which_file_is_missing(tmp_path):
    pytest.importorskip("sklearn")
    told = run(["--data", tmp_path / "nothing"])
    assert told.returncode == 2
    assert "nothing'): got no such file or directory" in told.stderr
    assert not told.stdout


def test_the_subset_of_cifar():
    """Skipped where the file is not given: it does not belong to the project."""
    path = os.environ.get(
        "DNLCONTROL_CIFAR_SUBSET", ROOT.parent / "shared" / "data" / "cifar10_subset.npz"
    )
    if not Path(path).is_file():
        pytest.skip(f"no CIFAR-10 subset at {path}; set DNLCONTROL_CIFAR_SUBSET to its path")
    data = dnl.images(path)
    assert data.x_train.shape == (4000, 32, 32, 3)
    assert data.x_test.shape == (1000, 32, 32, 3)
    assert set(data.y_train) == set(range(10))
    assert len(data.classes) == 10
