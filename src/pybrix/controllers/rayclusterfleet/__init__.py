"""Run replicas of a RayCluster, with revisions and rollouts."""
