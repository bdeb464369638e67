"""Rules that are not yet kept everywhere: how often each file breaks them, which may only fall.

python .ci/ratchet.py compares the code with .ci/ratchet.json; --write renews that file, and refuses
where a rule would be broken more often than it says. tests/test_shape.py runs the comparison.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".ci" / "ratchet.json"
RULES = {
    "dnlcontrol": [
        "ANN401",  # Any as a parameter's or a result's type
        "ARG",  # arguments that nothing reads
        "D",  # docstrings
        "PLR0913",  # more than five parameters
        "PLR0917",  # more than five positional ones
        "SLF001",  # private members of another class
    ],
    "tests": ["PT"],  # the habits of pytest
}
# Noun phrases are the house's form of a summary (D401), and a name that says it all needs none
# (D102, D105, D107); D203, D213 and D413 contradict other rules; D403 would capitalise L and τ.
WITHOUT = ["D102", "D105", "D107", "D203", "D213", "D401", "D403", "D413"]

Counts = dict[str, dict[str, int]]  # file -> rule -> how often


def ruff() -> str:
    """The linter of this environment."""
    beside = Path(sys.executable).with_name("ruff")
    return str(beside) if beside.exists() else "ruff"


def counts() -> Counts:
    """How often each file breaks each rule today."""
    found: Counter[tuple[str, str]] = Counter()
    for folder, rules in RULES.items():
        command = [ruff(), "check", folder, "--exit-zero", "--output-format=json", "--quiet"]
        command += [f"--select={','.join(rules)}", f"--ignore={','.join(WITHOUT)}"]
        # PLR0917 is a rule in preview; explicit: the others stay as they are without it
        command += ["--preview", "--config=lint.explicit-preview-rules=true"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        for place in json.loads(listed.stdout):
            file = Path(os.path.relpath(place["filename"], ROOT)).as_posix()
            found[file, place["code"] or "syntax"] += 1
    by_file: Counts = {}
    for (file, rule), count in sorted(found.items()):
        by_file.setdefault(file, {})[rule] = count
    return by_file


def kept() -> Counts:
    """The counts on record; none before the first record."""
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}


def grown(now: Counts, before: Counts) -> list[str]:
    """Where a file breaks a rule more often than its record says; a new file breaks none."""
    return [
        f"{file}: {rule} {count} times, at most {before.get(file, {}).get(rule, 0)}"
        for file, by_rule in now.items()
        for rule, count in by_rule.items()
        if count > before.get(file, {}).get(rule, 0)
    ]


def totals(by_file: Counts) -> Counter[str]:
    """How often each rule is broken in all files."""
    total: Counter[str] = Counter()
    for by_rule in by_file.values():
        total.update(by_rule)
    return total


def write(now: Counts) -> None:
    """Renew the record."""
    lines = [f"{json.dumps(file)}: {json.dumps(by_rule)}" for file, by_rule in now.items()]
    KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main() -> None:
    now, before = counts(), kept()
    was, total = totals(before), totals(now)
    for rule in sorted(was | total):
        print(f"{rule:8}  {total[rule]:5d}  {f'of {was[rule]}' if before else ''}")
    if "--write" in sys.argv:
        more = [rule for rule in total if before and total[rule] > was[rule]]
        if more:
            sys.exit(f"not written: {', '.join(sorted(more))} would grow")
        write(now)
    elif places := grown(now, before):
        sys.exit("\n".join([*places, "a file that moved takes its record along: make ratchet"]))


if __name__ == "__main__":
    main()
