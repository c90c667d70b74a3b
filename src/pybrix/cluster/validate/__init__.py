"""Check manifests without a server, by the rules that the embedded API server has."""
