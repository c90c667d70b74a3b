"""Controllers of the kinds that pybrix serves, one folder per kind."""
