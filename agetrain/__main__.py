"""``python -m agetrain``, or one line that says which extra to install."""

import sys

try:
    from agetrain.train import main
except ModuleNotFoundError as error:
    if error.name and error.name.partition(".")[0] in ("agetrain", "ageinfer"):
        raise
    print(f"agetrain: {error.name} is not installed: pip install 'ageinfer[train]'", file=sys.stderr)
    sys.exit(6)

if __name__ == "__main__":
    sys.exit(main())
