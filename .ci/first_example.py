"""Run the first Python example of a page as a doctest: python .ci/first_example.py README.md"""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path


def first_example(page: Path) -> str:
    """The first fenced block of Python on a page."""
    found = re.search(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    if found is None:
        raise SystemExit(f"{page}: no Python example")
    return found[1]


def main() -> None:
    page = Path(sys.argv[1])
    test = doctest.DocTestParser().get_doctest(first_example(page), {}, page.name, str(page), 0)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.DocTestRunner(optionflags=flags).run(test)
    import dnlcontrol

    print(f"{result.attempted} statements, {result.failed} failed, by {dnlcontrol.__file__}")
    sys.exit(result.failed > 0 or not result.attempted)


if __name__ == "__main__":
    main()
