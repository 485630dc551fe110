"""The door of simulate_particles."""

from firn.jobs import simulate_particles
from firn.runtime.entry import enter

with enter(snakemake, simulate_particles.Params) as job:
    simulate_particles.run(job)
