"""Twins of kernels for one kind of device; the plain kernel beside them says what they compute."""
