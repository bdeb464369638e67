"""``python -m dnlcontrol``."""

import sys

from dnlcontrol.shell.entry import main

sys.exit(main())
