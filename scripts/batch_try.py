"""The door of another try of a batch that failed."""

import sys

from firn.errors import InputError
from firn.runtime.batch_try import try_again

try:
    try_again(snakemake.params.chain, snakemake.params.files, snakemake.wildcards.batch, int(snakemake.wildcards.k), snakemake.output.json)
except InputError as error:
    sys.exit(str(error))
