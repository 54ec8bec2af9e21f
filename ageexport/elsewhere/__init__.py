"""The last level of a proof: the same file and the same pictures in a browser and on another processor."""
