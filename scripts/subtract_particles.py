"""The door of subtract_particles."""

from firn.jobs import subtract_particles
from firn.runtime.entry import enter

with enter(snakemake, subtract_particles.Params) as job:
    subtract_particles.run(job)
