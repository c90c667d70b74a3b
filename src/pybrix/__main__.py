"""`python -m pybrix` is the `pybrix` command."""

from pybrix.cli.main import main

if __name__ == "__main__":
    main()
