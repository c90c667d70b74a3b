"""What a KVCache runs: one module for each value of the annotation `backend`."""
