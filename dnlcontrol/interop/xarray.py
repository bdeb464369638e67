"""A solution as an xarray Dataset: arrays with named dimensions and coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dnlcontrol import checks
from dnlcontrol.discretisation.space.extension import Extension
from dnlcontrol.results.solution import Solution

if TYPE_CHECKING:
    import xarray

ATTRIBUTES = (
    "name",
    "backend",
    "depth",
    "rule",
    "value",
    "stationarity",
    "feasibility",
    "complementarity",
    "success",
    "message",
    "tolerance",
)


def to_xarray(solution: Solution) -> xarray.Dataset:
    """States, costates and controls with named dimensions.

    =======================  =================================  ====================================
    variable                 dimensions                         coordinates (problem's unit of time)
    =======================  =================================  ====================================
    state, costate           node, sample, state_0, ...         t_node = lτ
    control on the triangle  layer (1..L), source, name_0, ...  t_layer = (l-½)τ, s_source = (s+½)τ;
                                                                NaN: s >= l
    control on the path      cell, name_0, ... (node, ...       t_cell = (l+½)τ
                             where the outer map reads it)
    constant                 name_0, ...
    =======================  =================================  ====================================

    Value, stationarity and the like are attributes.

    Raises
    ------
    ImportError where xarray (the extra ``xarray``) is missing, InputError where a control has the
    name of another variable.
    """
    try:
        import xarray
    except ImportError as error:
        raise ImportError("to_xarray needs xarray; install dnlcontrol[xarray]") from error
    if not isinstance(solution, Solution):
        checks.reject_type("to_xarray.solution", solution, "a Solution")
    inner = [f"state_{i}" for i in range(solution.states.ndim - 2)]
    data: dict[str, Any] = {
        "state": (["node", "sample", *inner], solution.states),
        "costate": (["node", "sample", *inner], solution.costates),
    }
    coordinates: dict[str, Any] = {"t_node": ("node", solution.grid.nodes)}
    for name, control in solution.controls.items():
        if name in data or name in ("node", "sample", "layer", "source", "cell"):
            checks.reject(
                "to_xarray.solution",
                f"a control {name!r}",
                "controls that are not named like a dimension",
            )
        dims, more = _places(control)
        data[name] = (
            [*dims, *(f"{name}_{i}" for i in range(control.values.ndim - 1))],
            control.array(),
        )
        coordinates.update(more)
    attributes = {key: getattr(solution, key) for key in ATTRIBUTES}
    attributes["success"] = int(solution.success)  # netCDF has no booleans
    return xarray.Dataset(data, coordinates, attributes)


def _places(control: Extension) -> tuple[list[str], dict[str, Any]]:
    """The dimensions of a control's sites and their coordinates."""
    layout = control.layout
    if layout.on == "ts":
        layers = {
            "layer": layout.grid.rows(0),
            "t_layer": ("layer", layout.line),
            "s_source": ("source", layout.line),
        }
        return ["layer", "source"], layers
    if layout.on == "t":
        return (
            (["node"], {})
            if layout.side > layout.grid.depth
            else (["cell"], {"t_cell": ("cell", layout.line)})
        )
    return [], {}
