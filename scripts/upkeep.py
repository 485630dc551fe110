"""Care of run folders and installations; see --help and the --help of each command."""

import sys

from firn.errors import InputError
from firn.upkeep.commands import parse

try:
    given = parse(sys.argv[1:])
    sys.exit(given.command(given))
except (InputError, OSError) as error:
    sys.exit(str(error))
