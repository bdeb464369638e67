"""Problem files: ``problem(**parameters)``, and optionally ``reference(**parameters)``."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from dnlcontrol import checks
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.problem.reference import Reference

MOST_BYTES = 2**24  # of a problem file that a record names: 16 MB of Python


class BrokenFile(checks.InputError):
    """A function of a problem file failed otherwise than by rejecting its parameters."""


@dataclass(frozen=True)
class ProblemFile:
    """A loaded problem file with the parameters given to it."""

    path: Path
    module: ModuleType
    parameters: Mapping[str, object]
    data: bytes

    @property
    def source(self) -> dict[str, object]:
        """Absolute path, text, its SHA-256 and parameters, as a saved run records them."""
        return {
            "path": str(self.path.resolve()),
            "sha256": sha256(self.data),
            "text": importlib.util.decode_source(self.data),
            "parameters": self.parameters,
        }

    def problem(self) -> ControlProblem:
        """The problem with these parameters.

        Raises InputError for parameters that the file rejects, BrokenFile where it fails otherwise.
        """
        made = self._call("problem")
        if not isinstance(made, ControlProblem):
            checks.reject_type(f"{self.path.name}: problem()", made, "a ControlProblem")
        return made

    def reference(self) -> Reference | None:
        """The exact answer where the file has one; None where it rejects these parameters.

        Raises BrokenFile where it fails otherwise.
        """
        if not hasattr(self.module, "reference"):
            return None
        checks.function(f"{self.path.name}: reference", self.module.reference)
        try:
            made = self._call("reference")
        except BrokenFile:
            raise
        except checks.InputError as error:
            if str(error).startswith(f"{Reference.__name__}."):  # not of the parameters
                raise BrokenFile(f"{self.path.name}: reference(): {error}") from error
            return None
        if not isinstance(made, (Reference, type(None))):
            checks.reject_type(f"{self.path.name}: reference()", made, "a Reference or None")
        return made

    def _call(self, name: str) -> object:
        fn = getattr(self.module, name)
        known = _parameters(fn)
        free = any(p.kind is p.VAR_KEYWORD for p in known.values())
        for key in self.parameters:
            if key not in known and not free:
                checks.reject(
                    f"-p {key}",
                    key,
                    f"parameters of {self.path.name}: {', '.join(known) or 'none'}",
                )
        try:
            return fn(**self.parameters)
        except (checks.InputError, KeyboardInterrupt):
            raise
        except BaseException as error:  # whatever a user's file raises is told with its name
            seen = f"{type(error).__name__} ({checks.said(error)})"
            allowed = "a function that runs with these parameters"
            raise BrokenFile(
                f"{self.path.name}: {name}(): got {seen}; allowed: {allowed}"
            ) from error


def _parameters(fn: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function of a problem file; none where Python cannot tell them."""
    try:
        return inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return {}


def library() -> Path | None:
    """The folder of the problems that come with the library."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_problems", package.parent / "problems"):
        if folder.is_dir():
            return folder
    return None


def listed() -> list[tuple[str, str]]:
    """Name and first line of every problem in the library."""
    folder = library()
    found = []
    for path in sorted(folder.glob("*.py")) if folder else []:
        if not path.name.startswith("_"):
            text = ast.get_docstring(ast.parse(path.read_text())) or ""
            found.append((path.stem, text.splitlines()[0] if text else ""))
    return found


def load_problem(
    name: str | os.PathLike[str], parameters: Mapping[str, object] | None = None
) -> ProblemFile:
    """A problem by path to a .py file, or by its name in the library.

    Raises InputError for a file that is missing, fails on import or has no function problem().
    """
    path = checks.path("PROBLEM", name, "a path to a .py file or a name")
    if path.suffix != ".py":
        folder = library()
        path = folder / f"{name}.py" if folder else path
    if not path.is_file():
        known = ", ".join(n for n, _ in listed())
        checks.reject("PROBLEM", f"{name} (no such file)", f"a .py file, or one of: {known}")
    return _run(path, _read(path), dict(parameters or {}))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        checks.reject("PROBLEM", f"{path} ({error.strerror})", "a file that can be read")


def _run(path: Path, data: bytes, parameters: dict[str, object]) -> ProblemFile:
    """The module of a file's text ``data``: what was read is what runs, never older bytecode."""
    unique = f"dnlcontrol_problem_{sha256(str(path.resolve()).encode())[:12]}"
    spec = importlib.util.spec_from_file_location(unique, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module
    try:
        exec(compile(data, str(path), "exec", dont_inherit=True), module.__dict__)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # as above
        text = checks.said(error)
        checks.reject(
            "PROBLEM",
            f"{path.name}, which raises {type(error).__name__} ({text})",
            "a file that can be imported",
        )
    if not callable(getattr(module, "problem", None)):
        checks.reject(
            "PROBLEM",
            f"{path.name}, which defines no function problem()",
            "a file with problem(**parameters) -> ControlProblem",
        )
    return ProblemFile(path, module, parameters, data)


def rebuilt(
    source: Mapping[str, object], run: Path, named: str | os.PathLike[str] | None = None
) -> tuple[ControlProblem | None, str]:
    """The problem of the run directory ``run``, and a line where it may not be the one solved.

    A file runs only where the user ``named`` it, where it is the library's own, or from its own
    recorded path: outside the run, and with its text unchanged. Else there is no problem, and the
    line says why.

    Raises InputError where the file fails, or the one named is not there.
    """
    parameters = source.get("parameters")
    given = dict(parameters) if isinstance(parameters, Mapping) else {}
    recorded, path = source.get("sha256"), source.get("path")
    if named is not None:
        file = load_problem(named, given)
        changed = isinstance(recorded, str) and sha256(file.data) != recorded
        return file.problem(), f"the problem file changed since the solve: {named}" * changed
    if not isinstance(path, str):
        return None, ""
    folder, own = library(), Path(path)
    ours = folder / own.name if folder else own
    if own.stem in dict(listed()) and sha256(_read(ours)) == recorded:
        return load_problem(own.stem, given).problem(), ""
    why = _not_from_there(own, run)
    if why:
        return None, f"its problem file {own} {why}"
    if not isinstance(recorded, str):  # by an earlier version
        return None, f"its problem file {own} was kept without its digest"
    data = _read(own)
    if sha256(data) != recorded:
        return None, f"the problem file changed since the solve: {own}"
    return _run(own, data, given).problem(), ""


def _not_from_there(file: Path, run: Path) -> str:
    """Why a recorded path is not one that a file may run from; '' where it is."""
    try:
        # links resolved: /proc/self/cwd and the like would lead to wherever the run was put
        plain = file.is_absolute() and file.resolve() == file
        if not plain:
            return "is no absolute path without links"
        if file.is_relative_to(_whole(run)):
            return "lies in the run directory"
        if not file.is_file():
            return "is not there"
        return "" if file.stat().st_size <= MOST_BYTES else f"has more than {MOST_BYTES} bytes"
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"


def _whole(run: Path) -> Path:
    """The directory of the run; of a level that of its study."""
    folder = run.resolve()
    studies = [p for p in list(folder.parents)[:2] if (p / "problem.json").exists()]
    return studies[-1] if studies else folder


def sha256(data: bytes) -> str:
    """Its digest in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def parse_parameters(items: list[str]) -> dict[str, object]:
    """``name=value`` pairs; values are Python literals, else text.

    Raises InputError for anything else.
    """
    out: dict[str, object] = {}
    for item in items:
        key, sign, text = item.partition("=")
        if not sign or not key.isidentifier():
            checks.reject("-p", item, "name=value")
        try:
            out[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            out[key] = text
    return out
