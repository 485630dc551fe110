"""Pack what is known of a failed job into one archive to send on (see --help); a job that fails in a session writes it by itself."""

import argparse
import os
import sys
from pathlib import Path

import yaml

from firn.errors import InputError
from firn.runtime.error_report import find_failure, write_error_report

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run", type=Path, help="run folder")
parser.add_argument("job", help="name of the job")
parser.add_argument("--batch", help="batch of the job, such as 0003")
parser.add_argument("--session", type=Path, help="the session's config, to pack it too")
given = parser.parse_args()
try:
    config = yaml.safe_load(given.session.read_text(encoding="utf-8")) if given.session else None
    os.chdir(given.run)
    print(given.run / write_error_report(find_failure(given.job, given.batch, config)))
except (InputError, OSError, yaml.YAMLError) as error:
    sys.exit(str(error))
