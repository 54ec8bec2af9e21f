"""``python -m ageinfer`` is the ``ageinfer`` command."""

from ageinfer.commands.main import command

if __name__ == "__main__":
    command()
