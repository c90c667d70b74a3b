"""Stand in for the KubeRay operator: RayClusters become pods that run Ray."""
