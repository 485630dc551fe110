"""Make a finished session small, or whole again (see --help)."""

import argparse
import shutil
import sys
from pathlib import Path

from firn.errors import InputError
from firn.live.compact import CLASSES, compact, restore
from firn.upkeep.sizes import spoken_bytes

parser = argparse.ArgumentParser(description=__doc__, epilog="What stands after -- goes to snakemake: --profile P --configfile C.yaml")
parser.add_argument("folder", type=Path, help="run folder")
parser.add_argument("--dry-run", action="store_true", help="tell what would be deleted")
kinds = "; ".join(f"{name}: {what}" for name, what in CLASSES.items())
parser.add_argument("--what", nargs="+", choices=list(CLASSES), default=["images"], help=f"what to delete. {kinds}")
parser.add_argument("--restore", action="store_true", help="make what was deleted again from the movies")
words = sys.argv[1:]
end = words.index("--") if "--" in words else len(words)
given, arguments = parser.parse_args(words[:end]), words[end + 1 :]
snakefile = Path(__file__).resolve().parent.parent / "Snakefile"
program = shutil.which("snakemake", path=str(Path(sys.executable).parent)) or "snakemake"
try:
    if given.restore:
        for name in restore(given.folder, [program, "--snakefile", str(snakefile), *arguments]):
            print(f"{name}: differs from before; what was made from it will run again")
    else:
        for kind, size in compact(given.folder, given.dry_run, given.what).items():
            print(f"{spoken_bytes(size):>10}  {kind}")
except InputError as error:
    sys.exit(str(error))
