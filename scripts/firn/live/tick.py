"""One tick: a long poll that returns as soon as Snakemake has something new to do.

It looks at the folders, refuses and accepts files, cuts batches, plans tries of failed ones and rounds of streams, takes up finished ones, and
heeds what people decide. It holds no lane and no core. Killed at any moment, it loses nothing: batches, refusals and plans are written whole
before they count.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from firn.errors import ExposureError, InputError, MachineError
from firn.formats.storage import away
from firn.live import layout
from firn.live.batches import batch_name, in_order, next_batch, open_count, try_wanted
from firn.live.control import Control
from firn.live.exposures import Row, append_exposures, write_decisions, write_exposures
from firn.live.ledger import Ledger
from firn.live.planning import is_collected, tend_rounds
from firn.live.repicking import check_choices, tend_pickers, wants_restart
from firn.live.reports import tend_report
from firn.live.rounds import latest_rounds, open_rounds
from firn.live.session import TELL_S, Session
from firn.live.stirring import folders_of, rest, times_of
from firn.live.storage import mark_results, movies_away, no_room, require_results
from firn.live.trials import tend_trials, trial_plan
from firn.live.watch import check_movie, list_files, settled, shape_name, usual_shape, watch
from firn.runtime.atomic import write_json, write_text

PAUSE_BETWEEN_TRIES_S = 60.0
KEPT_TOKENS = 3
LATE_S = 60.0
"""For how long tables may come up later than the record of their job: so long NFS keeps what it knows of names (acdirmax)."""
STORAGE_S = 1.0
"""How long to wait before looking whether a disk is back."""
Outcome = TypeVar("Outcome")
REST, LONGEST_SLEEP_S = 20.0, 5.0
"""How long to rest after a look at the folders, as a multiple of its CPU time; and at most. A file that comes ends the rest."""


def run_tick(plan: dict[str, dict[str, Any]], token: Path, streams: Sequence[dict[str, Any]] = ()) -> None:
    """Work until there is something for Snakemake, then write the token."""
    mark_results()
    session = Session.resume(plan, time.time(), streams)
    over = _patiently(session, partial(_begin, session))
    while over is None:
        over = _patiently(session, partial(_turn, session))
    _patiently(session, partial(_leave, session, over, token))


def _patiently(session: Session, work: Callable[[], Outcome]) -> Outcome:
    """What the work gives; done again while a disk is full or away, of which an alarm tells."""
    while True:
        try:
            require_results()
            outcome = work()
            session.recover(_state(session))
            return outcome
        except (OSError, MachineError) as error:
            session.suffer(error, _state(session))
            time.sleep(STORAGE_S)


def _begin(session: Session) -> str | None:
    """Take up what is there; nothing when Snakemake was not asked for all that is open, as after a kill, else None."""
    write_decisions(session.control)
    _take_up(session)
    if _finish(session, time.time()):
        session.told = 0.0
    asked = layout.read_json(layout.OPEN, {})
    batches = {root: ledger.opened for root, ledger in session.ledgers.items() if ledger.opened}
    rounds = {
        job: {name: number for name, number in names.items() if not layout.round_try_file(job, name, number).exists()}
        for job, names in open_rounds(session.rounds).items()
    }
    return None if _is_part(batches, asked.get("batches", {})) and _is_part(rounds, asked.get("rounds", {})) else ""


def _is_part(opened: Mapping[str, Mapping[str, int]], asked: Mapping[str, Mapping[str, int]]) -> bool:
    return all(number == asked.get(name, {}).get(part) for name, parts in opened.items() for part, number in parts.items())


def _turn(session: Session) -> str | None:
    """One look at everything: why there is no next tick, nothing of that when Snakemake has something to do, None when it has not."""
    if session.returned:
        return "again"
    now = time.time()
    if session.heed(now, partial(_check, session)):
        write_decisions(session.control)
        _judge_all(session, now)
        session.told = 0.0
    looked, before = -time.process_time(), times_of(_folders(session))
    for root, ledger in session.ledgers.items():
        _look(session, ledger, session.plan[root], now)
    looked += time.process_time()
    tried, cut = _plan_tries(session, now), _cut(session, now)
    if any([tried, _pick_again(session, now), tend_trials(session, now), tend_rounds(session, now), tend_report(session)]):
        session.told, cut = 0.0, True
    if cut:
        return ""  # at once, since a job waits for it; what is done meanwhile is taken up by the next tick
    done = _finish(session, now)
    over = "" if done else _over(session, now)
    if done or _is_long_untold(session, now):
        session.tell(now, _state(session))
    if not done and not over:
        time.sleep(session.control.poll_s)
        rest(before, min(LONGEST_SLEEP_S, REST * looked) - session.control.poll_s, session.control.poll_s)
    return over or None


def _check(session: Session, control: Control) -> None:
    """Raise InputError when a picker that is asked for cannot do; found out again only when something has come that may change it."""
    state = [control, [len(ledger.tallies) for ledger in session.ledgers.values()], latest_rounds(session.rounds)]
    if session.refused and session.refused[0] == state:
        raise session.refused[1]
    try:
        check_choices(session, control.picker)
        if control.test is not None and control.test != session.control.test:
            trial_plan(session, control.test)
    except InputError as error:
        session.refused = state, error
        raise


def _pick_again(session: Session, now: float) -> bool:
    """Heed decisions about pickers; whether Snakemake has something new to do."""
    finished = sum(len(ledger.tallies) for ledger in session.ledgers.values())
    fresh = tend_pickers(session, now)
    if finished != sum(len(ledger.tallies) for ledger in session.ledgers.values()):
        _write_exposures(session)
    return fresh


def _folders(session: Session) -> set[str]:
    """Folders in which movies and results of batches come up."""
    found: set[str] = set()
    for root, ledger in session.ledgers.items():
        files = chain(ledger.waiting, ledger.taken, ledger.ready, ledger.refused)
        results = [str(layout.result_file(job, layout.FIRST_BATCH).parents[1]) for job in session.plan[root]["jobs"]]
        found |= folders_of(session.plan[root]["files"], files).union(results)
    return found


def _is_long_untold(session: Session, now: float) -> bool:
    """Whether people must be told now; a batch that is cut alone can wait."""
    return not 0 <= now - session.told <= TELL_S


def _look(session: Session, ledger: Ledger, plan: dict[str, Any], now: float) -> None:
    """Find files, and accept or refuse those that have settled; none of a folder that is away."""
    session.away[ledger.root] = movies_away(plan["files"], chain(ledger.waiting, ledger.taken, ledger.ready, ledger.refused))
    if session.away[ledger.root]:
        return
    for path, entry in list(ledger.refused.items()):
        if _changed(path, entry) or (entry[0] == "UNREADABLE" and not session.closing(now) and os.access(path, os.R_OK)):
            ledger.look_again(path)
    if session.control.state == "pause" and not session.ending:
        return
    before = set(ledger.waiting)
    ledger.waiting = watch(ledger.waiting, list_files(plan["files"], ledger.known), now)
    if ledger.waiting.keys() - before:
        session.memory["last_found"] = session.memory["quiet_since"] = now
    patience = session.control.settle_s if session.closing(now) else session.control.give_up_s
    for path in settled(ledger.waiting, now, session.control.settle_s):
        try:
            header = check_movie(path, plan["eer_fractions"], plan["eer_upsampling"], usual_shape(ledger.shapes))
        except ExposureError as fault:
            if now - ledger.waiting[path].since >= max(patience, session.control.settle_s) or fault.code == "NAME":
                ledger.refuse(path, fault, now)
            continue
        ledger.accept(path, shape_name(header), now)


def _changed(path: str, entry: list[Any]) -> bool:
    try:
        status = Path(path).stat()
    except OSError:
        return False
    return [status.st_size, status.st_mtime] != entry[2:4]


def _cut(session: Session, now: float) -> bool:
    """Cut as many batches as may be open; whether any was cut."""
    paused = session.control.state == "pause" and not session.ending
    if paused or session.control.state == "stop" or session.disk_is_full():
        return False
    fresh = False
    for root, ledger in session.ledgers.items():
        while open_count(session.opened) < session.most_open:
            number = ledger.batches + 1
            ready = {path: (entry[0], entry[1]) for path, entry in ledger.ready.items()}
            last = session.closing(now) and not ledger.waiting
            paths = next_batch(
                ready, session.plan[root]["batch_size"], session.control.max_wait_s, now, session.control.priority, number, last
            )
            if not paths or _hold(session, root, paths):
                break
            ledger.cut(batch_name(number), paths, time.time())
            fresh = True
    return fresh


def _hold(session: Session, root: str, paths: Sequence[str]) -> bool:
    """Whether files are away with their folder, so that nothing is to be begun with them."""
    if not session.away[root] and (path := away(paths)):
        session.away[root] = f"{path} and its folder are away; nothing is lost, bring them back"
    return bool(session.away[root])


def _plan_tries(session: Session, now: float) -> bool:
    """Raise the number of the try of every batch that failed; whether any was. A disk that is nearly full would make them fail again.

    Raises MachineError when a batch failed and nothing can be written, as beyond a quota, which no free space tells of.
    """
    fresh = False
    if session.disk_is_full():
        return fresh
    for root, ledger in session.ledgers.items():
        for batch, number in ledger.opened.items():
            if _failed(session.plan[root]["jobs"], root, batch, number, now) and not _hold(session, root, ledger.files_of(batch)):
                if not fresh and (sentence := no_room(Path())):
                    raise MachineError(sentence)
                ledger.opened[batch] = number + 1
                fresh = True
    return fresh


def _failed(jobs: dict[str, list[str]], root: str, batch: str, number: int, now: float) -> bool:
    if number == 0:
        done = {job for job in jobs if layout.result_file(job, batch).exists()}
        return try_wanted(jobs, done, {job for job in jobs if layout.failed_job_file(job, batch).exists()})
    record = layout.read_json(layout.failed_try_file(root, batch, number), None)
    pause = PAUSE_BETWEEN_TRIES_S * max(number - 2, 0)
    return record is not None and now - record["time"] >= pause


def _finish(session: Session, now: float) -> bool:
    """Take up the batches that are done; whether there were any."""
    fresh = False
    for root, ledger in session.ledgers.items():
        for batch, number in list(ledger.opened.items()):
            if _is_done(session.plan[root]["jobs"], root, batch, number) and _write_outcomes(session, root, batch, now):
                del ledger.opened[batch]
                if not append_exposures(_verdicts_of(session, root, batch)):
                    _write_exposures(session)
                fresh = True
    return fresh


def _is_done(jobs: dict[str, list[str]], root: str, batch: str, number: int) -> bool:
    if number:
        return layout.try_file(root, batch, number).exists()
    return all(layout.result_file(job, batch).exists() for job in jobs)


def _write_outcomes(session: Session, root: str, batch: str, now: float) -> bool:
    """Write what came of a batch; not yet, and false, while tables of a job are still to come up, as on a network disk."""
    from firn.live.batch_tables import BatchTables
    from firn.live.outcomes import LOST, read_outcomes, stamp, tally  # drawing is slow to import, and most ticks draw nothing
    from firn.live.pattern import add_pictures
    from firn.live.strip import show_batch

    ledger = session.ledgers[root]
    tables, late = BatchTables.of(session.plan[root]["jobs"], batch), session.memory.setdefault("late", {})
    waits = now - late.setdefault(f"{root}/{batch}", now) < LATE_S
    try:
        outcomes = read_outcomes(tables, ledger.files_of(batch))
    except InputError:
        if waits:
            return False
        raise
    if waits and any(outcome["code"] == LOST for outcome in outcomes):
        return False
    del late[f"{root}/{batch}"]
    stamp(outcomes, ledger.taken, now)
    show_batch(tables, outcomes)
    add_pictures(tables)
    write_json(layout.outcome_file(root, batch), outcomes)
    ledger.tallies[batch] = tally(outcomes, session.control, session.limits(root), now)
    return True


def _take_up(session: Session) -> None:
    """Close batches whose outcome is there, and tally those that the memory lacks."""
    for root, ledger in session.ledgers.items():
        known = {path.stem for path in (layout.LIVE / "outcomes" / root).glob("*.json")}
        ledger.opened = {batch: number for batch, number in ledger.opened.items() if batch not in known}
        if len(known) + len(ledger.opened) < ledger.batches:
            ledger.opened |= {batch: 0 for batch in layout.batch_ids(root) if batch not in known | ledger.opened.keys()}
    if any(
        len(ledger.tallies) != len(list((layout.LIVE / "outcomes" / root).glob("*.json")))
        or any("usable" not in tally for tally in ledger.tallies.values())
        for root, ledger in session.ledgers.items()
    ):
        _judge_all(session, time.time())


def _judge_all(session: Session, now: float) -> None:
    """Tally every finished batch again, under the thresholds as they are now."""
    from firn.live.outcomes import tally

    for root, ledger in session.ledgers.items():
        before, ledger.tallies = ledger.tallies, {}
        for path in (layout.LIVE / "outcomes" / root).glob("*.json"):
            since = before.get(path.stem, {}).get("time", now)
            ledger.tallies[path.stem] = tally(layout.read_json(path, []), session.control, session.limits(root), since)
    _write_exposures(session)


def _write_exposures(session: Session) -> None:
    rows = [
        row for root, ledger in session.ledgers.items() for batch in in_order(ledger.tallies) for row in _verdicts_of(session, root, batch)
    ]
    write_exposures(rows)


def _verdicts_of(session: Session, root: str, batch: str) -> list[Row]:
    from firn.live.outcomes import verdict_of

    outcomes = layout.read_json(layout.outcome_file(root, batch), [])
    return [Row(root, batch, outcome, *verdict_of(outcome, session.control, session.limits(root))) for outcome in outcomes]


def _state(session: Session) -> str:
    if session.control.state == "pause" and not session.ending:
        return "paused"
    return "ending" if session.ending else "running"


def _over(session: Session, now: float) -> str:
    """`stopped` or `ended` when there is no next tick, `again` when Snakemake must start again, else nothing."""
    if session.control.state == "stop":
        return "stopped"
    if _is_held_back(session) or wants_restart(session):
        return "again"
    if is_collected(session, now) and not open_rounds(session.rounds):
        return "ended"
    return ""


def _is_held_back(session: Session) -> bool:
    """Whether batches wait for nothing, once per import: Snakemake holds back for good what needs a job that failed, whoever made it later.

    All batches need the import of the first, which settles the gain.
    """
    released = session.memory.setdefault("released", [])
    first = layout.FIRST_BATCH
    held = [
        root for root in session.ledgers
        if root not in released and layout.failed_job_file(root, first).exists() and layout.result_file(root, first).exists()
    ]  # fmt: skip
    released += held
    return bool(held)


def _leave(session: Session, over: str, token: Path) -> None:
    """Remember everything, write the token, and remove those of long ago, so that their folder stays small."""
    if over or _is_long_untold(session, time.time()):  # else a job that waits comes first
        session.tell(time.time(), over if over in ("stopped", "ended") else _state(session))
    session.remember(over)
    if over == "ended":
        for ledger in session.ledgers.values():
            ledger.close(time.time())
        write_json(layout.ENDED, {"time": time.time()})
    write_text(token, "")
    for old in sorted(token.parent.glob("[0-9]*"))[:-KEPT_TOKENS]:
        old.unlink(missing_ok=True)
