"""Cuts faces out of pictures; training and runtime share this specification and this code."""
