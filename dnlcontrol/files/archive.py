"""Arrays of numbers in a zip file, as ``numpy.savez`` writes it: read within bounds.

The directory and the headers say what is there before any of it is read: members are stored and not
compressed, so that they need no more memory than the file has bytes, and their sizes are exactly
those of their shapes. No header is evaluated, no object is unpickled.
"""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

import numpy as np

from dnlcontrol.files.fields import Field, Misfit

MOST_DIRECTORY = 1 << 20  # bytes: of 10,000 members with names of 40 letters
READ_AT_ONCE = 1 << 20  # bytes
# the end of a zip file without a comment: signature, four counts, size and offset of the directory
END = struct.Struct("<4s4H2LH")
LOCATOR = struct.Struct("<4sLQL")  # of the end of a file above 4 GB
LARGE_END = struct.Struct("<4sQ2H2L4Q")
NUMBERS = ("f8", "f4", "i8")
MAGIC = b"\x93NUMPY\x01\x00"
# a rank of 4 at most: layers, samples and a state of rank 2
HEADER = re.compile(
    rb"\{'descr': '([<>])([fiU])(\d{1,9})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,15},(?: \d{1,15}(?:, \d{1,15}){0,2})?)?)\), \} *\n"
)
# what zipfile raises at a damaged file
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
)


class BrokenArchive(Exception):
    """A file that is no archive of arrays, or a part of one; the message says why."""


@dataclass(frozen=True)
class Member:
    """An array that is not read yet: of numbers, or of text.

    ``start``: where its entries begin in the member; ``order``: that of their bytes, "<" or ">";
    ``kind``: "f8", "f4" and "i8", or "U" with the number of letters.
    """

    name: str
    info: zipfile.ZipInfo
    start: int
    shape: tuple[int, ...]
    order: str
    kind: str
    fortran: bool

    @property
    def textual(self) -> bool:
        """Whether it is text."""
        return self.kind.startswith("U")

    @property
    def size(self) -> int:
        """Its entries in bytes."""
        width = int(self.kind[1:])
        return math.prod(self.shape) * (4 * width if self.textual else width)


class Archive:
    """The members of an open file, whose headers are read and checked.

    Raises BrokenArchive where the file is no archive of arrays of numbers.
    """

    def __init__(self, file: IO[bytes]) -> None:
        try:
            self._size = _size_of(file)
            self._zip = zipfile.ZipFile(file)
            self.members = {m.name: m for m in map(self._member, self._zip.infolist())}
        except UNREADABLE as error:
            raise BrokenArchive(_why(error)) from error
        infos = self._zip.infolist()
        if len(self.members) != len(infos):
            raise BrokenArchive("with two members of one name")
        if sum(i.compress_size for i in infos) > self._size:
            raise BrokenArchive("whose members are larger than the file")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """name -> shape of every array of numbers."""
        return {name: m.shape for name, m in self.members.items() if not m.textual}

    def array(self, name: str) -> np.ndarray:
        """One array of numbers, float64.

        Raises BrokenArchive where its bytes are not those that were written.
        """
        member = self.members[name]
        kind = f"{member.order}{member.kind}"
        data = np.frombuffer(self._bytes(member), kind).astype(float, copy=False)
        return data.reshape(member.shape, order="F" if member.fortran else "C")

    def text(self, name: str) -> str:
        """One text.

        Raises BrokenArchive where it is none.
        """
        member = self.members.get(name)
        if member is None or not member.textual or member.shape:
            raise BrokenArchive(f"without the text {name!r}")
        try:
            form = "utf-32-le" if member.order == "<" else "utf-32-be"
            return self._bytes(member).decode(form).rstrip("\0")
        except UnicodeDecodeError as error:
            raise BrokenArchive(_why(error)) from error

    def _member(self, info: zipfile.ZipInfo) -> Member:
        """What a member's header says."""
        name = info.filename.removesuffix(".npy")
        stored = info.compress_type == zipfile.ZIP_STORED
        plain = stored and info.file_size == info.compress_size <= self._size
        if not plain or info.flag_bits & 1:
            raise BrokenArchive(f"whose member {name!r} is compressed or encrypted")
        with self._zip.open(info) as stream:
            begin = stream.read(len(MAGIC) + 2)
            length = int.from_bytes(begin[len(MAGIC) :], "little")
            found = HEADER.fullmatch(stream.read(length)) if begin.startswith(MAGIC) else None
        if found is None:
            raise BrokenArchive(f"whose member {name!r} is no array of numbers")
        order, kind, width, fortran, sides = (g.decode() for g in found.groups())
        shape = tuple(int(n) for n in sides.split(",") if n.strip())
        if kind != "U" and f"{kind}{width}" not in NUMBERS:
            raise BrokenArchive(f"whose member {name!r} is of the type {kind}{width}")
        member = Member(
            name,
            info,
            len(begin) + length,
            shape,
            order=order,
            kind=f"{kind}{width}",
            fortran=fortran == "True",
        )
        if member.start + member.size != info.file_size:
            raise BrokenArchive(f"whose member {name!r} has not the size of its shape {shape}")
        return member

    def _bytes(self, member: Member) -> bytearray:
        """The numbers of a member; ``zipfile`` compares their checksum at the end."""
        data = bytearray(member.size)
        view, place = memoryview(data), 0
        try:
            with self._zip.open(member.info) as stream:
                stream.read(member.start)
                while part := stream.read(READ_AT_ONCE):
                    view[place : place + len(part)] = part
                    place += len(part)
        except UNREADABLE as error:
            raise BrokenArchive(_why(error)) from error
        return data


def stored(where: str, value: object) -> Member:
    """The field of an array in an archive: its :class:`Member`."""
    if not isinstance(value, Member) or value.textual:
        raise Misfit(where, value, "an array of numbers")
    return value


def vector(size: int) -> Field:
    """The field of a vector in an archive, of so many numbers."""

    def check(where: str, value: object) -> Member:
        member = stored(where, value)
        if member.shape != (size,):
            raise Misfit(where, f"of shape {member.shape}", f"a vector of length {size}")
        return member

    return check


def check_shapes(
    seen: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int | None, ...]]
) -> None:
    """That there are exactly these arrays; None in a shape for any length from 1.

    Raises Misfit where there are others.
    """
    if seen.keys() != expected.keys():
        raise Misfit("the list of arrays", sorted(seen), f"{sorted(expected)}")
    for name, shape in expected.items():
        found = seen[name]
        fits = len(found) == len(shape) and all(
            n == m or (m is None and n > 0) for n, m in zip(found, shape, strict=True)
        )
        if not fits:
            sides = ", ".join("any" if n is None else str(n) for n in shape)
            raise Misfit(f"the array {name!r}", f"of shape {found}", f"of shape ({sides})")


def _size_of(file: IO[bytes]) -> int:
    """The size of a zip file, whose directory is of a bounded size: before ``zipfile`` reads it."""
    size = file.seek(0, os.SEEK_END)
    if size < END.size:
        raise BrokenArchive("truncated")
    file.seek(size - END.size)
    end = END.unpack(file.read(END.size))
    if end[0] != b"PK\x05\x06" or end[-1]:
        raise BrokenArchive("truncated or no archive")
    length, before = end[5], size - END.size - LOCATOR.size - LARGE_END.size
    if before >= 0:
        file.seek(before)
        large = LARGE_END.unpack(file.read(LARGE_END.size))
        if LOCATOR.unpack(file.read(LOCATOR.size))[0] == b"PK\x06\x07":
            length = large[8]
    if length > MOST_DIRECTORY:
        raise BrokenArchive("with too many members")
    return size


def _why(error: Exception) -> str:
    return f"truncated or no archive of arrays ({type(error).__name__}: {str(error)[:80]})"
