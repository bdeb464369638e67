"""Problem files: ``problem(**parameters)``, and optionally ``reference(**parameters)``."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from dnlcontrol import checks
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.problem.reference import Reference


class BrokenFile(checks.InputError):
    """A function of a problem file failed otherwise than by rejecting its parameters."""


@dataclass(frozen=True)
class ProblemFile:
    """A loaded problem file with the parameters given to it."""

    path: Path
    module: ModuleType
    parameters: Mapping[str, object]

    @property
    def source(self) -> dict[str, object]:
        """Path and parameters, as a saved run records them."""
        return {"path": str(self.path), "parameters": self.parameters}

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


def load_problem(name: str, parameters: Mapping[str, object] | None = None) -> ProblemFile:
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
    unique = f"dnlcontrol_problem_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(unique, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module
    try:
        spec.loader.exec_module(module)
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
    return ProblemFile(path, module, dict(parameters or {}))


def rebuild(source: Mapping[str, object]) -> ControlProblem:
    """The problem of a saved run: its problem file, run again with the recorded parameters.

    A library problem whose recorded path is gone is found by its name.

    Raises InputError where the solution has no problem file, or the file fails.
    """
    path, parameters = source.get("path"), source.get("parameters")
    if not isinstance(path, str) or not isinstance(parameters, (Mapping, type(None))):
        checks.reject(
            "run",
            "a solution without its problem file",
            "one saved by the command line, or dataclasses.replace(solution, problem=...)",
        )
    file = Path(path)
    moved = (
        not file.is_file()
        and file.parent.name in ("problems", "_problems")
        and file.stem in dict(listed())
    )
    try:
        return load_problem(file.stem if moved else path, dict(parameters or {})).problem()
    except checks.InputError as error:
        raise checks.InputError(f"run: its problem cannot be built again: {error}") from error


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
