"""The door of the report of a session that goes on."""

import json
import os
from pathlib import Path

from firn.report.handover import write_reports
from firn.report.session import find_session
from firn.runtime.atomic import write_json
from firn.runtime.entry import log_to

os.nice(10)
log_to(Path(snakemake.log[0]))
schema = json.loads(Path(snakemake.params.schema).read_text(encoding="utf-8"))
files = write_reports(find_session(snakemake.params.session, schema), Path("live/report"))
write_json(Path(snakemake.output.json), {"files": [str(path) for path in files]})
