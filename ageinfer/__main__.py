"""The ``ageinfer`` command, also as ``python -m ageinfer``."""

import sys
from typing import NoReturn


def command() -> NoReturn:
    """Handles signals before the rest is loaded, then runs the command and ends the process."""
    try:
        from ageinfer.commands.interrupts import Interrupts, ignore_signals

        interrupts = Interrupts().begin()  # until the process ends
        from ageinfer.commands.main import command as run

        run(interrupts)
    except KeyboardInterrupt:  # while it was loaded
        ignore_signals()
        print("ageinfer: interrupted; nothing was written", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    command()
