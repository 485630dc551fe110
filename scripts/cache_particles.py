"""The door of cache_particles."""

from firn.jobs import cache_particles
from firn.runtime.entry import enter

with enter(snakemake, cache_particles.Params) as job:
    cache_particles.run(job)
