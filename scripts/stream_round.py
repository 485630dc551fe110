"""The door of a round of a stream; it gives way to work that keeps up with the microscope."""

import logging
import os
import sys
from pathlib import Path

from firn.errors import InputError
from firn.live.layout import read_json
from firn.runtime.entry import log_to
from firn.runtime.round_try import make_round

os.nice(2)
log_to(Path(snakemake.log[0]))
try:
    make_round(read_json(Path(snakemake.input.plan), None), Path(snakemake.output.json), snakemake.threads)
except InputError as error:
    logging.getLogger("firn").error(error)
    sys.exit(str(error))
