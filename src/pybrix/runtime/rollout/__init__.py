"""How replicas move from one template to the next: the arithmetic of Deployments, for whatever the replicas are.

A Deployment of pods and a RayClusterFleet differ in what a replica is, not in how many of each template there should
be, how revisions are numbered, or when a rollout counts as stuck. Pure.
"""
