"""A run folder, or a folder of several, in the browser, at http://127.0.0.1 unless told otherwise (see --help and docs/dashboard.md)."""

import argparse
import os
import secrets
import sys
from pathlib import Path

from firn.dashboard.gate import LOOPBACK, Gate
from firn.dashboard.hall import Hall, is_run, list_runs
from firn.dashboard.routes import Routes
from firn.dashboard.server import Server


def main() -> None:
    """Serve until somebody closes it."""
    given = _given()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # the cores are for the jobs
    token = os.environ.get("FIRN_DASHBOARD_TOKEN") or secrets.token_urlsafe(24)
    gate = Gate(token if given.token or given.host not in LOOPBACK else None)
    os.chdir(given.run)
    several = not is_run(Path()) and bool(list_runs(Path()))
    routes = Hall(Path(), gate.page_secret) if several else Routes(gate.page_secret)
    try:
        server = Server(given.host, given.port, gate, routes.read, routes.change)
    except OSError as error:
        sys.exit(f"cannot listen on {given.host} port {given.port}: {error.strerror}")
    host = f"[{given.host}]" if ":" in given.host else given.host
    print(f"http://{host}:{server.port}/" + (f"?token={token}" if gate.token else ""), flush=True)
    try:
        server.serve_forever(poll_interval=0.25)
    except KeyboardInterrupt:
        print("dashboard closed; the run goes on")
    if isinstance(routes, Hall):
        routes.close()


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder, or folder of run folders; it is read, and only decision files are written")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; any but this machine's loopback needs a token, which is printed"
    )
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--token", action="store_true", help="ask for a token on this machine too (FIRN_DASHBOARD_TOKEN sets it)")
    given = parser.parse_args()
    if not given.run.is_dir():
        sys.exit(f"{given.run}: is no run folder")
    return given


if __name__ == "__main__":
    main()
