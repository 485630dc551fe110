"""Files to numpy and back. The only place with RELION labels, x before y, and pixels against Å. No torch."""
