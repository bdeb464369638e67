"""Import paths of the first version still lead to the modules, and say where they are now."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module, reload

import pytest

import dnlcontrol
from dnlcontrol.moved import MOVED, PACKAGE, new_path


@pytest.mark.parametrize("old", MOVED)
def test_every_path_leads_to_a_module(old):
    new = import_module(new_path(PACKAGE + old))
    sys.modules.pop(PACKAGE + old, None)
    with pytest.warns(DeprecationWarning, match=new.__name__):
        module = import_module(PACKAGE + old)
    assert module is not new
    for name in vars(new):
        if not name.startswith("__"):
            assert getattr(module, name) is getattr(new, name)
    with pytest.raises(AttributeError):
        _ = module.no_such_name


def test_modules_of_a_folder_that_moved():
    with pytest.warns(DeprecationWarning, match=r"discretisation\.space"):
        from dnlcontrol.space.layout import Layout
    from dnlcontrol.discretisation.space.layout import Layout as Now

    assert Layout is Now


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_other_names_are_not_found():
    for name in ("dnlcontrol.nothing", "dnlcontrol.storage.nothing", "dnlcontrol.rules.nothing"):
        with pytest.raises(ModuleNotFoundError):
            import_module(name)


def test_importing_the_package_twice_asks_once():
    before = len(sys.meta_path)
    reload(dnlcontrol)
    assert len(sys.meta_path) == before


def test_nothing_is_said_of_the_new_paths():
    program = "import dnlcontrol as dnl; dnl.ODE, dnl.losses, dnl.init, dnl.load"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
