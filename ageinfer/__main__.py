"""``python -m ageinfer`` is the ``ageinfer`` command."""

import sys

from ageinfer.cli import main

if __name__ == "__main__":
    sys.exit(main())
