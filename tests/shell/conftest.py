"""The command line in this process, and saved runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dnlcontrol.shell.cli import main
from tests.shell.command_line import Ran


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run one command in this process."""

    def run(*arguments: Any) -> Ran:
        capsys.readouterr()
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
        return Ran(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saved runs: t7 (depth 3), hager (depth 4), ladder (a study of t7), and broken ones."""
    folder = tmp_path_factory.mktemp("runs")
    for arguments in (
        ["solve", "t7_h1_triangle", "--depth", "3", "--backend", "adjoint", "--out", "t7"],
        ["solve", "o1_hager", "--depth", "4", "--backend", "adjoint", "--out", "hager"],
        ["study", "t7_h1_triangle", "--depths", "2,4", "--exact-to", "2", "--out", "ladder"],
        ["solve", "t7_h1_triangle", "--depth", "2", "--backend", "adjoint", "--out", "truncated"],
    ):
        assert main([*arguments[:-1], str(folder / arguments[-1])]) == 0
    arrays = folder / "truncated" / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:100])
    (folder / "file").write_text("not a directory")
    (folder / "empty").mkdir()
    return folder
