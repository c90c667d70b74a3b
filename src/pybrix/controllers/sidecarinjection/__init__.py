"""Say when a workload asks for the sidecar and nobody put it there."""
