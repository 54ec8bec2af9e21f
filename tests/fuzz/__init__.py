"""Feeds damaged pictures, films, models and requests to the runtime; `python -m tests.fuzz --help` is the long run."""
