"""``python -m rairl_lightning`` is the command ``rairl``."""

import sys

from rairl_lightning.cli import main

if __name__ == "__main__":
    sys.exit(main())
