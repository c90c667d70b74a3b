"""Services answer on addresses of their own: kube-proxy's work, done by forwarding TCP in a process of its own."""
