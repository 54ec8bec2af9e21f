"""The age model: reading and checking its file, opening it on a provider, estimating ages."""
