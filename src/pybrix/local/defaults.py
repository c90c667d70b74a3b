"""Where things are unless said otherwise; imports nothing, since every command reads it."""

DEFAULT_DATA_DIR = "~/.local/share/pybrix"
