"""What an installation on Kubernetes consists of, rendered as manifests and as a Helm chart."""
