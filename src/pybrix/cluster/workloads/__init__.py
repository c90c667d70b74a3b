"""What a cluster's own controllers do: one folder a kind, `registry` lists them all."""
