"""The door of subset_particles."""

from firn.jobs import subset_particles
from firn.runtime.entry import enter

with enter(snakemake, subset_particles.Params) as job:
    subset_particles.run(job)
