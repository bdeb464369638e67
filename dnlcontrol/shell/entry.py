"""Where the command begins: signals are answered before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence

from dnlcontrol.shell.signals import answered


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""

    def run() -> int:
        from dnlcontrol.shell.cli import main

        return main(arguments)

    return answered(run)
