"""How the threads of a job wait is settled before torch is loaded."""

import os
import subprocess
import sys

import pytest

SAY = "import sys, firn, os; print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"


@pytest.mark.parametrize(("given", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given: dict[str, str], expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | {
        "PYTHONPATH": os.pathsep.join(sys.path)
    }
    answer = subprocess.run([sys.executable, "-c", SAY], env=environment | given, check=True, capture_output=True, text=True).stdout
    assert answer.split() == ["False", expected]
