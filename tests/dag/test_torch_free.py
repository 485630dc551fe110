"""What Snakemake imports while it builds the DAG."""

import subprocess
import sys
from pathlib import Path


def test_the_dag_is_built_without_importing_torch() -> None:
    scripts = Path(__file__).resolve().parents[2] / "scripts"
    code = f"import sys; sys.path.insert(0, {str(scripts)!r}); import firn.dag.inputs, firn.dag.session; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
