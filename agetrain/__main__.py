"""``python -m agetrain``: trains an age network."""

import sys

from agetrain.train import main

if __name__ == "__main__":
    sys.exit(main())
