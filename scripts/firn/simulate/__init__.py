"""Simulation with truth, by formulae of its own: shares no projection or CTF code with the kernels."""
