"""The door of extract_particles."""

from firn.jobs import extract_particles
from firn.runtime.entry import enter

with enter(snakemake, extract_particles.Params) as job:
    extract_particles.run(job)
