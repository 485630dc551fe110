"""The report of a session, made anew beside it when rounds have ended: never two at once, and rounds that end meanwhile share the next one."""

from firn.live import layout
from firn.live.session import Session


def tend_report(session: Session) -> bool:
    """Ask for a report when a round was done since the last one was asked for; whether Snakemake has something new to do."""
    if layout.report_at_work(session.memory.get("report", 0)) or session.disk_is_full():
        return False
    done = sum(entry["state"] == "done" for entries in session.rounds.values() for entry in entries)
    fresh = done > session.memory.get("report", 0)
    if fresh:
        session.memory["report"] = done
    return fresh
