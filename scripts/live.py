"""Run a live session to its end, then the whole graph: `python scripts/live.py FOLDER [arguments of snakemake]`."""

import shutil
import sys
from pathlib import Path

from firn.errors import InputError
from firn.live.supervise import supervise

folder, arguments = Path(sys.argv[1] if len(sys.argv) > 1 else "."), sys.argv[2:]
snakefile = Path(__file__).resolve().parent.parent / "Snakefile"
program = shutil.which("snakemake", path=str(Path(sys.executable).parent)) or "snakemake"
try:
    sys.exit(supervise([program, "--snakefile", str(snakefile), *arguments], folder))
except InputError as error:
    sys.exit(str(error))
except KeyboardInterrupt:
    sys.exit("live session interrupted; start it again to go on")
