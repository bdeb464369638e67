"""Installed scripts of earlier versions begin here."""

from dnlcontrol.shell.cli import main as main
