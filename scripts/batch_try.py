"""The door of another try of a batch that failed."""

import logging
import sys
from pathlib import Path

from firn.errors import InputError
from firn.runtime.batch_try import try_again
from firn.runtime.entry import log_to

log_to(Path(snakemake.log[0]))
try:
    try_again(snakemake.params.chain, snakemake.params.files, snakemake.wildcards.batch, int(snakemake.wildcards.k), snakemake.output.json)
except InputError as error:
    logging.getLogger("firn").error(error)
    sys.exit(str(error))
