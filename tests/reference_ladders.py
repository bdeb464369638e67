"""The reference problems with the depths at which they are solved."""

from __future__ import annotations

import importlib

# depths for Richardson extrapolation: enough for the declared exponents (see each problem's
# reference)
LADDERS = {
    "t2_scalar_resnet": ({}, (16, 32, 64)),
    "t3b_h1_path": ({}, (16, 32, 64)),
    "t5_l2_triangle_tracking": ({}, (16, 32, 64)),
    "t7_h1_triangle": ({}, (8, 16, 32)),
    "v1_rational_memory": ({}, (16, 32, 64)),
    "v2_transient_impact": ({}, (16, 32, 64, 128)),
    "v2_two_samples": ({"samples": 2}, (16, 32, 64, 128)),
    "v5_minimum_energy": ({"alpha": 1.5}, (16, 32, 64)),
    "v5_weakly_singular": ({"alpha": 0.75}, (8, 16, 32, 64)),
    "v8_double_integral": ({}, (16, 32, 64, 128)),
    "o1_hager": ({}, (25, 50, 100)),
    "o2_dt_qp": ({}, (50, 100, 200)),
    "o4_bryson_denham": ({}, (24, 48, 96)),
    "o5b_van_der_pol": ({}, (50, 100, 200)),
}
FILES = {"v2_two_samples": "v2_transient_impact", "v5_weakly_singular": "v5_minimum_energy"}


def files(case: str):
    parameters, depths = LADDERS[case]
    module = importlib.import_module(f"problems.{FILES.get(case, case)}")
    return module.problem(**parameters), module.reference(**parameters), depths
