"""Labelled images from the user's files: .npz, CIFAR-10's batches, SVHN's .mat; or the digits.

Nothing is downloaded. A file that is missing, cut off or of another format is an error that names
it, says what is there and what was expected.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np

from dnlcontrol import checks

T = TypeVar("T")
DIGITS = "digits"
# a CIFAR-10 record: the label, then red, green and blue planes row by row
SIDE, RECORD = 32, 1 + 3 * 32 * 32
BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
MATS = ("train_32x32.mat", "test_32x32.mat")
CIFAR_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
BROKEN = (OSError, ValueError, KeyError)
KEYS = ("x_train", "y_train", "x_test", "y_test")
USUAL, FIRST = (1, 2, 3, 4), (1, 3)  # channels where images have them last, and first
ALLOWED = (
    "'digits'; an .npz file with x_train, y_train, x_test, y_test "
    "(images (N, height, width[, channels])); "
    "a directory with data_batch_1.bin to data_batch_5.bin and test_batch.bin "
    "(the binary version of CIFAR-10) "
    f"or with {' and '.join(MATS)} (the cropped digits of SVHN), "
    "as the authors of these data sets distribute them"
)


@dataclass(frozen=True)
class Images:
    """A labelled set of images in a training and a test part; made by :func:`images`.

    Attributes
    ----------
    name : of the data set.
    x_train, x_test : (N, height, width, channels).
    y_train, y_test : integer labels 0, 1, ..., (N,).
    classes : the labels' names.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]

    def first(self, train: int | None = None, test: int | None = None) -> Images:
        """The first images of each part; None: all of them.

        Raises InputError where there are not as many.
        """

        def most(part: str, count: int | None, there: int) -> int:
            if count is not None and checks.whole(part, count) > there:
                checks.reject(part, count, f"at most {there}, the images of {self.name}")
            return there if count is None else count

        m, n = most("train", train, len(self.y_train)), most("test", test, len(self.y_test))
        return Images(
            self.name,
            self.x_train[:m],
            self.y_train[:m],
            self.x_test[:n],
            self.y_test[:n],
            self.classes,
        )

    def states(self, side: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """Both parts as states (N, side·side, channels) of a convolutional network.

        Averages over square blocks of pixels; each channel minus its mean over the training images,
        divided by its standard deviation; then channels of zeros, for the network to use.

        Raises InputError for a side that does not divide height and width, or too few channels.
        """
        height, width, own = self.x_train.shape[1:]
        if checks.whole("side", side) > min(height, width) or height % side or width % side:
            checks.reject(
                "side", side, f"a common divisor of the images' {height} x {width} pixels"
            )
        if checks.whole("channels", channels) < own:
            checks.reject("channels", channels, f"at least the images' {own}")

        def pooled(x: np.ndarray) -> np.ndarray:
            blocks = x.reshape(len(x), side, height // side, side, width // side, own)
            return np.asarray(blocks.mean((2, 4), dtype=float)).reshape(len(x), side * side, own)

        train, test = pooled(self.x_train), pooled(self.x_test)
        mean, deviation = train.mean((0, 1)), train.std((0, 1))
        deviation[deviation == 0] = 1.0
        zeros = ((0, 0), (0, 0), (0, channels - own))
        first, second = (np.pad((x - mean) / deviation, zeros) for x in (train, test))
        return first, second


def images(path: str | os.PathLike[str] = DIGITS, axes: str | None = None) -> Images:
    """Read labelled images.

    Parameters
    ----------
    path : "digits" (scikit-learn's 1797 digits of 8 x 8 pixels, every fifth for testing), an .npz
        file, or a directory with the binary batches of CIFAR-10 or the .mat files of SVHN.
    axes : the order of the axes in an .npz file, such as "NHWC", "NCHW", "HWCN" or "NHW": images,
        height, width, channels. None: "NHWC" or "NHW" where the shape allows no other reading.

    Raises
    ------
    InputError that names the path, what is there and what is expected; for a shape that could be
    read in another order without ``axes``, and for ``axes`` where the format fixes the order.

    >>> data = images("digits")
    >>> data.x_train.shape, len(data.y_test), data.states(side=4, channels=2)[0].shape
    ((1437, 8, 8, 1), 360, (1437, 16, 2))
    """
    _check_axes(axes)
    if isinstance(path, str) and path == DIGITS:
        _fixed(axes, path)
        return _digits()
    try:
        where = Path(path)
    except TypeError:
        checks.reject_type("images", path, ALLOWED)
    if where.is_file():
        return _npz(where, axes)
    _fixed(axes, where)
    if not where.is_dir():
        _reject(where, "no such file or directory", ALLOWED)
    names = {entry.name for entry in where.iterdir()}
    for files, read in ((BATCHES, _cifar), (MATS, _svhn)):
        if names & set(files):
            missing = sorted(set(files) - names)
            if missing:
                _reject(where, f"without {', '.join(missing)}", f"all of {', '.join(files)}")
            return read(where)
    seen = (
        "the Python version of CIFAR-10"
        if "data_batch_1" in names
        else ", ".join(sorted(names)[:6]) or "nothing"
    )
    _reject(where, f"holds {seen}", ALLOWED)


def _check_axes(axes: object) -> None:
    if axes is None:
        return
    if not isinstance(axes, str):
        checks.reject_type("images.axes", axes, "a string such as 'NHWC' or None")
    if len(set(axes)) != len(axes) or set(axes) not in (set("NHW"), set("NHWC")):
        checks.reject("images.axes", axes, "the letters N, H, W and, with channels, C, each once")


def _fixed(axes: str | None, path: str | Path) -> None:
    """Refuse ``axes`` where the format has one order."""
    if axes is not None:
        seen = f"{axes!r} for {str(path)!r}, whose format fixes the order"
        checks.reject("images.axes", seen, "None, or an .npz file")


def _digits() -> Images:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        checks.reject(
            "images",
            "'digits' without scikit-learn",
            "'digits' once scikit-learn is installed, or a path",
        )
    found = load_digits()
    x = found.images[..., None]
    y = found.target.astype(np.int64)
    test = np.arange(len(found.target)) % 5 == 0
    return Images(DIGITS, x[~test], y[~test], x[test], y[test], tuple(map(str, range(10))))


def _npz(path: Path, axes: str | None) -> Images:
    def load() -> dict[str, np.ndarray]:
        if not zipfile.is_zipfile(path):
            raise ValueError("not an archive, or one that is cut off")
        with np.load(path, allow_pickle=False) as file:
            return {k: file[k] for k in file.files}

    expected = f"a whole .npz file with {', '.join(KEYS)}, without pickles"
    found = _attempt(path, load, expected, (*BROKEN, zipfile.BadZipFile, zlib.error, EOFError))
    missing = [k for k in KEYS if k not in found]
    if missing:
        _reject(path, f"without {', '.join(missing)}", f"an .npz file with {', '.join(KEYS)}")
    parts = []
    for part in ("train", "test"):
        x, y = found[f"x_{part}"], found[f"y_{part}"]
        parts.append(_part(path, part, _ordered(path, part, x, y, axes), y))
    count = 1 + max(int(y.max()) for _, y in parts)
    classes = tuple(map(str, found.get("classes", range(count))))
    if len(classes) < count:
        _reject(path, f"label {count - 1} for {len(classes)} classes", "a name for every label")
    return _set(path, path.stem, parts, classes)


def _cifar(path: Path) -> Images:
    """Each record is a label and 3 planes of 32 x 32 bytes; the six batches are of one size."""
    batches = [_batch(path / name) for name in BATCHES]
    sizes = [len(b) for b in batches]
    if len(set(sizes)) > 1:
        cut = path / BATCHES[int(np.argmin(sizes))]
        _reject(
            cut, f"{min(sizes)} images", f"{max(sizes)}, as in the other batches; copy it again"
        )
    parts = []
    for records in (np.concatenate(batches[:-1]), batches[-1]):
        planes = records[:, 1:].reshape(-1, 3, SIDE, SIDE)
        parts.append((planes.transpose(0, 2, 3, 1), records[:, 0].astype(np.int64)))
    return _set(path, "CIFAR-10", parts, CIFAR_CLASSES)


def _batch(path: Path) -> np.ndarray:
    raw = _attempt(
        path, lambda: np.fromfile(path, dtype=np.uint8), "a file that can be read", BROKEN
    )
    if not len(raw) or len(raw) % RECORD:
        expected = (
            f"a positive multiple of {RECORD} bytes (label, then 3 x 1024 pixels); it may "
            "be cut off"
        )
        _reject(path, f"{len(raw)} bytes", expected)
    records = raw.reshape(-1, RECORD)
    if records[:, 0].max() > 9:
        _reject(
            path, f"a label {records[:, 0].max()}", "labels 0..9, the first byte of each record"
        )
    return records


def _svhn(path: Path) -> Images:
    """X (32, 32, 3, N) and y (N, 1), where 10 stands for the digit 0."""
    parts = []
    for name, part in zip(MATS, ("train", "test"), strict=True):
        where, found = path / name, _mat(path / name)
        x, y = (np.asarray(found.get(k, np.zeros(0))) for k in ("X", "y"))
        if x.ndim != 4 or x.shape[:3] != (SIDE, SIDE, 3) or y.size != x.shape[3]:
            seen = f"X of shape {x.shape}, y of shape {y.shape}"
            _reject(where, seen, "X of shape (32, 32, 3, N) and N labels y, SVHN's cropped digits")
        x, y = _part(where, part, x.transpose(3, 0, 1, 2), y.ravel())
        if y.min() < 1 or y.max() > 10:
            _reject(where, f"labels {y.min()}..{y.max()}", "labels 1..10, where 10 is the digit 0")
        parts.append((x, y % 10))
    return _set(path, "SVHN", parts, tuple(map(str, range(10))))


def _mat(path: Path) -> dict[str, object]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    broken = (
        *BROKEN,
        MatReadError,
        NotImplementedError,
        TypeError,
        zlib.error,
        IndexError,
        EOFError,
    )
    found = _attempt(
        path, lambda: loadmat(path), "a MATLAB file of version 5 to 7, not cut off", broken
    )
    return dict(found)


def _attempt(
    path: Path, load: Callable[[], T], expected: str, broken: tuple[type[Exception], ...]
) -> T:
    """What ``load`` returns; a file that it cannot read is named."""
    try:
        return load()
    except broken as error:
        _reject(path, f"{type(error).__name__}: {' '.join(str(error).split())[:80]}", expected)


def _ordered(path: Path, part: str, x: np.ndarray, y: np.ndarray, axes: str | None) -> np.ndarray:
    """Images as (N, height, width[, channels]); ``axes`` is the order they have."""
    if axes is not None:
        if x.ndim != len(axes):
            _reject(path, f"x_{part} of shape {x.shape}", f"{len(axes)} axes, axes={axes!r}")
        return x.transpose([axes.index(letter) for letter in "NHWC" if letter in axes])
    if x.ndim not in (3, 4):
        return x
    last, first = x.shape[-1] in USUAL, x.shape[1] in FIRST
    plain = last and not first if x.ndim == 4 else not (first or x.shape[-1] in FIRST)
    images_last = y.ndim == 1 and x.shape[-1] == len(y) > 1
    if plain and not images_last:
        return x
    orders = "'NHWC', 'NCHW' or 'HWCN'" if x.ndim == 4 else "'NHW' or 'HWN'"
    seen = (
        f"x_{part} of shape {x.shape} for {y.size} labels, whose axes can be read in several ways"
    )
    _reject(path, seen, f"such a shape with axes= of images(), for example {orders}")


def _part(path: Path, part: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, height, width, channels) and integer labels (N,)."""
    x = x[..., None] if x.ndim == 3 else x
    if x.dtype.kind not in "uif" or x.ndim != 4 or not x.size or not np.all(np.isfinite(x)):
        seen = f"x_{part} of shape {x.shape}, dtype {x.dtype}"
        _reject(path, seen, "finite numbers of shape (N, height, width[, channels]), N >= 1")
    if (
        y.shape != (len(x),)
        or y.dtype.kind not in "uif"
        or np.any(y != np.floor(y))
        or np.any(y < 0)
    ):
        seen = f"y_{part} of shape {y.shape}, dtype {y.dtype}, for {len(x)} images"
        _reject(path, seen, "one label 0, 1, ... for each image")
    return x, y.astype(np.int64)


def _set(
    path: Path, name: str, parts: list[tuple[np.ndarray, np.ndarray]], classes: tuple[str, ...]
) -> Images:
    (x, y), (x_test, y_test) = parts
    if x.shape[1:] != x_test.shape[1:]:
        seen = f"training images {x.shape[1:]}, test images {x_test.shape[1:]}"
        _reject(path, seen, "one shape of images in both parts")
    return Images(name, x, y, x_test, y_test, classes)


def _reject(path: Path, seen: str, allowed: str) -> NoReturn:
    """The standard error about a file or directory, whose name is never shortened."""
    checks.reject(f"images({str(path)!r})", seen, allowed)
