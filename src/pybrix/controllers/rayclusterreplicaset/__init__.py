"""Keep a number of equal RayClusters alive."""
