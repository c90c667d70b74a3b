"""pybrix: control plane and gateway for LLM inference."""

__version__ = "0.1.0"
