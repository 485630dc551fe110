"""What the dashboard refuses, over real sockets, and what it never changes."""

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from firn.dashboard import server as server_module
from firn.dashboard.gate import Gate
from served_run import Site

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "dashboard.py"


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "path",
    ["../outside.txt", "..%2foutside.txt", "%2e%2e/outside.txt", "%2e%2e%2foutside.txt", "live/../../outside.txt", "/etc/passwd", "%2fetc%2fpasswd",
     "..\\outside.txt", "..%5coutside.txt", "%252e%252e/outside.txt", "live/%00.txt", ".snakemake/log/x.log", "", ".", "live", "x" * 300 + ".txt"],
)  # fmt: skip
def test_no_path_leads_out_of_the_run_folder(site: Site, path: str) -> None:
    reply = site.get(f"/file/{path}")
    assert reply.status == 404
    assert b"secret" not in reply.body
    assert b"root:" not in reply.body


@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_out_of_the_run_folder_is_not_followed(site: Site, run_folder: Path, absolute: bool) -> None:
    outside = run_folder.parent / "outside.txt"
    (run_folder / "link.txt").symlink_to(outside if absolute else "../outside.txt")
    (run_folder / "folder").symlink_to(run_folder.parent)
    (run_folder / "round.txt").symlink_to("round.txt")
    for path in ("link.txt", "folder/outside.txt", "round.txt"):
        assert site.get(f"/file/{path}").status == 404


def test_a_link_within_the_run_folder_is_followed(site: Site, run_folder: Path) -> None:
    (run_folder / "link.csv").symlink_to("live/exposures.csv")
    assert site.get("/file/link.csv").body == (run_folder / "live" / "exposures.csv").read_bytes()


def test_files_of_other_kinds_are_not_handed_out(site: Site, run_folder: Path) -> None:
    (run_folder / "map.mrc").write_bytes(b"1")
    os.mkfifo(run_folder / "pipe.txt")
    assert site.get("/file/map.mrc").status == 404
    assert site.get("/file/pipe.txt").status == 404


def test_without_the_token_nothing_is_told(guarded: Site) -> None:
    for address in ("/", "/api/session", "/file/live/exposures.csv", "/static/dashboard.js", "/no/such"):
        assert guarded.get(address).status == 401
    assert guarded.post("/decide/state", {"state": "pause"}).status == 401


@pytest.mark.parametrize("wrong", ["", "the-toke", "the-tokens", "%ff%00", "THE-TOKEN"])
def test_a_wrong_token_is_refused(guarded: Site, wrong: str) -> None:
    reply = guarded.get(f"/?token={wrong}")
    assert reply.status == 401
    assert "set-cookie" not in reply.headers
    assert guarded.get("/api/session", Cookie=f"firn_{guarded.server.port}={wrong}").status == 401
    assert guarded.get("/api/session", Authorization=f"Bearer {wrong}").status == 401


def test_the_token_is_changed_for_a_cookie_that_scripts_and_other_sites_never_see(guarded: Site) -> None:
    cookie = guarded.get("/?token=the-token").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "the-token" not in cookie
    assert guarded.get("/api/session", Cookie=cookie.split(";")[0]).status == 200
    assert guarded.get("/api/session", Authorization="Bearer the-token").status == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": ""}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, {"X_Firn_Page": ""},
     {"X_Firn_Page": "guess"}, {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}],
)  # fmt: skip
def test_another_site_changes_nothing(site: Site, run_folder: Path, headers: dict[str, str]) -> None:
    before = digests(run_folder)
    assert site.post("/decide/state", {"state": "pause"}, **headers).status == 403
    assert digests(run_folder) == before


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1", "192.168.0.3"])
def test_a_foreign_name_for_this_machine_is_refused(site: Site, host: str) -> None:
    assert site.get("/api/session", Host=host).status == 403


def test_a_changed_secret_is_needed_after_a_restart(run_folder: Path) -> None:
    first, second = Site(Gate()), Site(Gate())
    try:
        assert second.post("/decide/state", {"state": "pause"}, X_Firn_Page=first.gate.page_secret).status == 403
    finally:
        first.close()
        second.close()


@pytest.mark.parametrize("length", [2500, 70_000])
def test_a_huge_address_is_refused(site: Site, length: int) -> None:
    assert site.get("/api/points?count=" + "1" * length).status == 414


def test_huge_headers_and_many_fields_are_refused(site: Site) -> None:
    assert site.get("/", Cookie="a" * 20_000).status == 431
    assert site.get("/?" + "&".join(f"a{at}=1" for at in range(200))).status == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Content_Length": "999999999"}, 413), ({"Content_Length": "-1"}, 411), ({"Content_Length": ""}, 411), ({"Content_Length": "1e3"}, 411),
     ({"Transfer_Encoding": "chunked"}, 411), ({"Content_Type": "text/plain"}, 415), ({"Content_Type": "application/x-www-form-urlencoded"}, 415)],
)  # fmt: skip
def test_a_body_that_is_no_small_json_is_refused(site: Site, headers: dict[str, str], status: int) -> None:
    assert site.post("/decide/state", {"state": "run"}, **headers).status == status


@pytest.mark.parametrize("content", [[], "x", 3, None])
def test_a_change_is_an_object(site: Site, content: object) -> None:
    assert site.post("/decide/state", content).status == 400


@pytest.mark.parametrize("method", ["PUT", "DELETE", "TRACE", "OPTIONS", "CONNECT"])
def test_other_methods_are_refused(site: Site, method: str) -> None:
    reply = site.send(f"{method} / HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
    assert reply.status == 501
    assert reply.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("raw", [b"GET /\r\n\r\n", b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET //evil.example/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"\r\n\r\n", b"GET /file/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n"])  # fmt: skip
def test_what_is_no_request_of_a_page_is_not_answered_with_one(site: Site, raw: bytes) -> None:
    assert b"<main" not in site.send(raw).body
    assert site.get("/").status == 200


def test_every_answer_has_strict_headers(site: Site) -> None:
    for address in ("/", "/api/session", "/no/such", "/file/live/exposures.csv", "/static/dashboard.js"):
        headers = site.get(address).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in site.get("/").headers["content-security-policy"]


def test_html_that_a_job_wrote_runs_in_an_origin_of_its_own(site: Site, run_folder: Path) -> None:
    (run_folder / "results" / "report.html").write_text("<script>1</script>")
    policy = site.get("/file/results/report.html").headers["content-security-policy"]
    assert policy.startswith("sandbox")
    assert "allow-same-origin" not in policy


def test_a_client_that_trickles_is_cut_while_others_are_answered(run_folder: Path) -> None:
    site = Site(Gate(), deadline_s=0.5)
    try:
        start = time.monotonic()
        with socket.create_connection(("127.0.0.1", site.server.port), timeout=10) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\nX: ")
            assert site.get("/api/hand").status == 200
            closed = False
            while not closed and time.monotonic() - start < 5:
                try:
                    slow.sendall(b"a")
                    slow.settimeout(0.1)
                    closed = slow.recv(10) == b""
                except TimeoutError:
                    continue
                except ConnectionError:
                    closed = True
        assert closed
        assert time.monotonic() - start < 3
    finally:
        site.close()


def test_too_many_connections_are_closed_and_the_server_goes_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MOST_CONNECTIONS", 3)
    lines = [socket.create_connection(("127.0.0.1", site.server.port), timeout=5) for _ in range(6)]
    closed = 0
    for line in lines:
        line.settimeout(0.3)
        try:
            closed += line.recv(1) == b""
        except TimeoutError:
            continue
        except ConnectionError:
            closed += 1
    for line in lines:
        line.close()
    assert closed == 3
    deadline = time.monotonic() + 5
    while site.get("/api/hand").status != 200 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert site.get("/api/hand").status == 200


def test_killing_the_dashboard_changes_nothing_in_the_run(run_folder: Path) -> None:
    before = digests(run_folder)
    program = subprocess.Popen([sys.executable, str(SCRIPT), str(run_folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert program.stdout is not None
        address = program.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        for path in (
            "",
            "api/session",
            "api/points",
            "api/exposures",
            "api/exposure?id=e001",
            "api/jobs",
            "api/classes",
            "api/maps",
            "api/machine",
            "api/sizes",
        ):
            with urllib.request.urlopen(address + path) as reply:
                assert reply.status == 200
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait()
        program.stdout.close()
    assert digests(run_folder) == before
    assert not list(run_folder.rglob("*.tmp"))


def test_any_address_but_the_loopback_asks_for_a_token(run_folder: Path) -> None:
    program = subprocess.Popen([sys.executable, str(SCRIPT), str(run_folder), "--host", "0.0.0.0"], stdout=subprocess.PIPE, text=True)
    try:
        assert program.stdout is not None
        address = program.stdout.readline().strip()
        assert len(address.partition("?token=")[2]) >= 32
        bare = address.partition("?")[0].replace("0.0.0.0", "127.0.0.1")
        with pytest.raises(urllib.error.HTTPError, match="401") as fault:
            urllib.request.urlopen(bare)
        fault.value.close()
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
