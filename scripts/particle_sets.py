"""The door of particle_sets."""

from firn.jobs import particle_sets
from firn.runtime.entry import enter

with enter(snakemake, particle_sets.Params) as job:
    particle_sets.run(job)
