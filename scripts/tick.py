"""The door of a tick: a long poll of a live session, without torch."""

from pathlib import Path

from firn.live.tick import run_tick

run_tick(snakemake.params.plan, Path(snakemake.output[0]), snakemake.params.streams)
