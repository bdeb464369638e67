"""The constants of the forecast, as ``benchmarks/18_forecast.py --fit`` prints them.

For each route how often each term of ``sizes.terms`` is there at the peak of memory, and what it
takes of a solve's seconds with a typical number of iterations, on the machine whose products of
small matrices (pace.py) took PRODUCTS_SECONDS.
"""

from __future__ import annotations

PRODUCTS_SECONDS = 0.00143
MEMORY: dict[str, dict[str, float]] = {
    "lifted": {
        "curvature": 31.2,
        "states": 70,
        "layers": 3.79,
        "fill": 2.28,
        "rows": 2.46,
        "sensitivities of rows": 0.481,
    },
    "condensed, dense": {"dense": 17.3, "sensitivities": 1, "one": 2.72, "one of rows": 11.2},
    "condensed, by products": {"first": 2, "curvature": 4.59, "points": 12.3, "controls": 169},
    "stored": {
        "first": 1,
        "second": 8.44,
        "controls": 50,
        "taped": 0.229,
        "states": 34.9,
        "one": 0.549,
    },
    "tape": {"taped": 114, "taped with outer map": 44.4, "states": 4, "controls": 50},
    "chain": {"states": 8.92, "controls": 50, "one": 41.4},
    "columns": {"states": 13.9, "controls": 110, "matrices": 24.6, "one": 21.8},
    "dual": {"states": 4, "controls": 158, "one": 24.2},
    "printed": {"states": 4, "chunk": 1.34, "controls": 170, "matrices": 21, "one": 14.6},
}
SECONDS: dict[str, dict[str, float]] = {
    "lifted": {"layers": 0.24, "first": 0.532, "fill work": 1.29, "rows": 0.0177, "front": 0.209},
    "condensed, dense": {
        "dense work": 1.59,
        "first": 0.0509,
        "layers": 10.9,
        "one": 0.273,
        "one of rows": 0.41,
    },
    "condensed, by products": {"curvature": 0.434, "layers": 0.384},
    "stored": {"layers": 0.423, "states": 3.87},
    "tape": {"layers": 93.8, "layers with outer map": 172, "states": 1.07},
    "chain": {"layers": 0.561, "states": 0.354},
    "columns": {"layers": 5.71, "first": 0.00354, "states": 0.749, "controls": 1.49},
    "dual": {"layers": 923, "first": 0.538},
    "printed": {"layers": 51.9, "first": 0.029, "one": 1.05},
}
