"""The door of the report."""

import json
from pathlib import Path

from firn.report.handover import write_reports
from firn.report.session import read_session

schema = json.loads(Path(snakemake.params.schema).read_text(encoding="utf-8"))
session = read_session([Path(path) for path in snakemake.input], snakemake.params.session, schema)
write_reports(session, Path(snakemake.output.html).parent)
