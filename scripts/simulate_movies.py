"""The door of simulate_movies."""

from firn.jobs import simulate_movies
from firn.runtime.entry import enter

with enter(snakemake, simulate_movies.Params) as job:
    simulate_movies.run(job)
