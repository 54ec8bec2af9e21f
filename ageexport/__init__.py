"""Turns a checkpoint of agetrain into one model file, and proves on real faces that it answers the same."""

import ageinfer  # noqa: F401 - before any import of ONNX Runtime, whose telemetry it switches off
