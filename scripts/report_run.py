"""Write the report of a run as it is now, whole or not, live or over: report.html, report.pdf and what goes with them (see --help)."""

import argparse
import json
import os
import sys
from pathlib import Path

import yaml

from firn.errors import InputError
from firn.report.handover import write_reports
from firn.report.session import find_session

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run", type=Path, help="run folder, the one with results/")
parser.add_argument("session", type=Path, nargs="?", help="the session's config, for its title and what it says about the sample")
parser.add_argument("--into", type=Path, help="folder to write to; default: results/ of the run")
given = parser.parse_args()
schema = json.loads((Path(__file__).resolve().parent.parent / "config" / "schema.json").read_text(encoding="utf-8"))
try:
    config = yaml.safe_load(given.session.read_text(encoding="utf-8")) if given.session else {}
    folder = given.into.resolve() if given.into else Path("results")
    os.chdir(given.run)
    print("\n".join(str(path) for path in write_reports(find_session(config, schema), folder)))
except (InputError, OSError, yaml.YAMLError) as error:
    sys.exit(str(error))
