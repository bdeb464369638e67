"""What a certificate is: rows of a measured number, what is allowed, and what was compared."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from dnlcontrol.checks import path as checked_path
from dnlcontrol.checks import writable


@dataclass(frozen=True)
class Check:
    """One row; NaN never passes.

    It passed where ``measured`` is at most ``allowed`` (``at_least``: at least).
    """

    name: str
    measured: float
    allowed: float
    passed: bool
    what: str
    at_least: bool = False

    @property
    def relation(self) -> str:
        return ">=" if self.at_least else "<="


def at_most(name: str, measured: float, allowed: float, what: str) -> Check:
    """The row that passes where measured <= allowed."""
    return Check(name, float(measured), float(allowed), bool(measured <= allowed), what)


def at_least(name: str, measured: float, allowed: float, what: str) -> Check:
    """The row that passes where measured >= allowed."""
    return Check(
        name, float(measured), float(allowed), bool(measured >= allowed), what, at_least=True
    )


@dataclass(frozen=True)
class Certificate:
    """Everything that was checked about one solution.

    Attributes
    ----------
    passed : whether every check passed.
    checks : the rows; ``certificate["stationarity"]`` is one of them, ``failed`` those that did not
        pass.
    seed : draws the same sample again.
    """

    problem: str
    backend: str
    depth: int
    rule: str
    tolerance: float
    seed: int
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)

    def __getitem__(self, name: str) -> Check:
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"{name!r}; there are {', '.join(check.name for check in self.checks)}")

    def table(self) -> str:
        """One line for each check, aligned."""
        verdict = f"passed, {len(self.checks)} checks"
        if self.failed:
            verdict = f"FAILED, {len(self.failed)} of {len(self.checks)} checks"
        lines = [
            f"{self.problem}, {self.backend} backend, L = {self.depth}, {self.rule} rule, "
            f"tolerance {self.tolerance:.0e}, seed {self.seed}: {verdict}"
        ]
        width = max((len(check.name) for check in self.checks), default=0)
        for c in self.checks:
            mark = "  ok  " if c.passed else "FAILED"
            lines.append(
                f"{mark}  {c.name:{width}}  {_short(c.measured):>8} {c.relation} "
                f"{_short(c.allowed):>8}  {c.what}"
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as ``--json`` prints them."""
        keys = ("name", "measured", "relation", "allowed", "passed", "what")
        return {
            "problem": self.problem,
            "backend": self.backend,
            "rule": self.rule,
            "depth": self.depth,
            "tolerance": self.tolerance,
            "seed": self.seed,
            "passed": self.passed,
            "checks": [{key: getattr(check, key) for key in keys} for check in self.checks],
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as one JSON file; numbers that are not finite become null."""
        from dnlcontrol.files.atomic import make_directory
        from dnlcontrol.results.records import write_json

        allowed = "the path of a JSON file"
        make_directory(checked_path("path", path, allowed).parent)
        file = writable("path", path, allowed)
        write_json(file, {"format": 1, "kind": "certificate", **self.to_dict()})

    def __repr__(self) -> str:
        return self.table()


def _short(x: float) -> str:
    return f"{x:.3g}"
