"""``python -m dnlcontrol``."""

import sys

from dnlcontrol.cli import main

sys.exit(main())
