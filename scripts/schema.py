"""Write config/schema.json and config/README.md from the job types; with --check, only say whether they are stale."""

import sys
from pathlib import Path

from firn.runtime.schema import reference_text, schema_text

config = Path(__file__).resolve().parent.parent / "config"
texts = {config / "schema.json": schema_text(), config / "README.md": reference_text()}
if "--check" in sys.argv:
    stale = [path.name for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    sys.exit(f"config: {', '.join(stale)} is stale; run make schema" if stale else 0)
for path, text in texts.items():
    path.write_text(text, encoding="utf-8")
