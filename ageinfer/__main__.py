"""``python -m ageinfer`` is the ``ageinfer`` command."""

from ageinfer.cli import command

if __name__ == "__main__":
    command()
