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
    "condensed, dense": {"dense": 19.4, "sensitivities": 1, "one": 0.739, "one of rows": 10.6},
    "condensed, by products": {"first": 2, "curvature": 4.59, "points": 12.3, "controls": 169},
    "stored": {"first": 1, "second": 10.1, "controls": 50, "taped": 8.16, "states": 5.65},
    "tape": {"taped": 114, "taped with outer map": 44.4, "states": 4, "controls": 50},
    "chain": {"states": 7.4, "controls": 50, "one": 12.3},
    "columns": {"states": 4.53, "controls": 104, "matrices": 30.1, "one": 4.98},
    "dual": {"states": 4, "controls": 50, "one": 30},
}
SECONDS: dict[str, dict[str, float]] = {
    "lifted": {"layers": 0.24, "first": 0.532, "fill work": 1.29, "rows": 0.0177, "front": 0.209},
    "condensed, dense": {"dense work": 1.25, "first": 0.0306, "one": 0.395, "one of rows": 1.03},
    "condensed, by products": {"curvature": 0.434, "layers": 0.384},
    "stored": {"layers": 0.929, "second": 0.243},
    "tape": {"layers": 93.8, "layers with outer map": 172, "states": 1.07},
    "chain": {"layers": 4.43, "states": 0.14},
    "columns": {"first": 0.0258, "one": 6.34},
    "dual": {"first": 5.36},
}
