"""Manifests as text: what is in a file, and on which line."""
