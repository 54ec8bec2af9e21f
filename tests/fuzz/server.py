"""The process that serves the page while it is fed requests: the command itself, with limited memory."""

from fuzz.child import limit_memory

if __name__ == "__main__":
    limit_memory()
    from ageinfer.commands.main import command

    command()
