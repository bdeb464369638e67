"""``python -m dnlcontrol``."""

import sys

from dnlcontrol.shell.cli import main

sys.exit(main())
