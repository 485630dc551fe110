"""The door of the report."""

from pathlib import Path

from firn.report.html import write_report
from firn.report.summary import write_summary

records = [Path(path) for path in snakemake.input]
write_report(records, Path(snakemake.output.html), snakemake.params.session)
write_summary(records, Path(snakemake.output.summary), report=Path(snakemake.output.html))
