"""The constants of the forecast, as ``benchmarks/18_forecast.py --fit`` prints them.

For each route how often each term of ``sizes.terms`` is there at the peak of memory, and what it
takes of a solve's seconds with a typical number of iterations, on the machine whose products of
small matrices (pace.py) took PRODUCTS_SECONDS.
"""

from __future__ import annotations

PRODUCTS_SECONDS = 0.00138
MEMORY: dict[str, dict[str, float]] = {
    k: {"controls": 100.0, "one": 10.0}
    for k in (
        "lifted",
        "condensed, dense",
        "condensed, by products",
        "stored",
        "tape",
        "chain",
        "columns",
        "dual",
    )
}
SECONDS: dict[str, dict[str, float]] = {k: {"one": 1.0} for k in MEMORY}
