"""Pure functions from tensors to tensors, on any device. No files, no logs, no globals, nothing written into arguments."""
