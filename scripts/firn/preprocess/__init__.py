"""The exposure engine: what happens to one movie on one device, step by step. Knows no files."""
