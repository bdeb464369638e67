"""The constants of the forecast, as ``benchmarks/18_forecast.py --fit`` prints them.

For each route how often each term of ``sizes.terms`` is there at the peak of memory, and what it
takes of a solve's seconds with a typical number of iterations, on the machine whose products of
small matrices (pace.py) took PRODUCTS_SECONDS.
"""

from __future__ import annotations

PRODUCTS_SECONDS = 0.00143
MEMORY: dict[str, dict[str, float]] = {
    "lifted": {
        "curvature": 39,
        "states": 159,
        "layers": 1.59,
        "fill": 2.06,
        "rows": 2.51,
        "sensitivities of rows": 0.382,
    },
    "condensed, dense": {"dense": 17.5, "sensitivities": 1, "one": 2.04, "one of rows": 17.4},
    "condensed, by products": {
        "first": 2,
        "curvature": 4.02,
        "points": 13.4,
        "controls": 20,
        "layers": 0.34,
        "one": 11.6,
    },
    "stored": {"first": 1, "second": 9.03, "controls": 50, "tape": 0.593, "states": 17.3},
    "chain": {"states": 7.4, "controls": 50, "one": 12.3},
    "columns": {"states": 4.53, "controls": 104, "matrices": 30.1, "one": 4.98},
    "tape": {"states": 10.0, "controls": 50.0, "one": 5.0},
    "dual": {"states": 10.0, "controls": 50.0, "one": 5.0},
}
SECONDS: dict[str, dict[str, float]] = {
    "lifted": {
        "layers": 0.226,
        "first": 0.605,
        "fill work": 1.26,
        "rows": 0.0175,
        "front": 0.229,
        "one": 0.00277,
    },
    "condensed, dense": {"dense work": 1.27, "first": 0.127, "one": 0.303, "one of rows": 0.848},
    "condensed, by products": {"curvature": 0.346, "layers": 0.544, "one": 0.0711},
    "stored": {"layers": 1.51, "second": 0.101},
    "chain": {"first": 0.0195, "one": 1.51},
    "columns": {"first": 0.0166, "one": 5.7},
    "tape": {"layers": 10.0, "first": 0.1, "one": 1.0},
    "dual": {"layers": 10.0, "first": 0.1, "one": 1.0},
}
