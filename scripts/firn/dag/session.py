"""The door of the Snakefile: a config becomes a graph, or one line and an exit code. Torch-free."""

import os
import sys
from typing import Any

from firn.dag.catalogue import Catalogue
from firn.dag.graph import Graph
from firn.errors import InputError


def load_session(config: dict[str, Any], schema_path: str) -> Graph:
    """The graph of a session; a fault in the config ends the process with its lines and the exit code os.EX_CONFIG."""
    try:
        return Graph(config, Catalogue(schema_path))
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(os.EX_CONFIG)
