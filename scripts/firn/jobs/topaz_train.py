"""Train a model with Topaz, a program of the user's own, from micrographs in which some of the particles are known."""

import shutil

import pandas as pd
from pydantic import Field

from firn.families.outside import find_program, record_program
from firn.families.topaz import WORK, Desk, whole_file
from firn.families.topaz_training import (
    CURVE,
    Labels,
    TrainingParams,
    check_expected,
    counted_share,
    keep_model,
    put_known,
    read_curve,
    share_to_tell,
    training_command,
    training_options,
    write_lists,
)
from firn.report.training import draw_training
from firn.runtime.job import Job


class Params(TrainingParams):
    """Train a model that topaz_picker picks with, by the program `topaz`, which is installed apart from this one.

    Some particles suffice, if all that are given are particles: what is not given is not taken for background (positive-unlabelled learning).
    A share of the micrographs is kept apart, and the epoch that tells known particles best from all else there is chosen.
    """

    expected_particles: float = Field(gt=0)
    """Particles that a micrograph has on average, known or not; more than are given."""
    test_fraction: float = Field(0.2, ge=0, lt=1)
    """Share of micrographs kept apart to choose the epoch by; 0: none is, and the last epoch is taken."""


def run(job: Job[Params]) -> None:
    """Write model.sav, model.json (what it was trained with), training.tsv (the curve) and topaz.json (program, version, arguments)."""
    params = job.params
    desk = Desk(find_program("topaz", params.executable), (job.folder / WORK).absolute(), job.device, job.threads)
    desk.folder.mkdir()
    labels, pixel_size = put_known(job, desk)
    train, test = _split(job, desk, labels)
    check_expected(job, params.expected_particles, train)
    prepare = desk.normalise([whole_file(number) for number in labels.pixels])
    desk.run(prepare)
    options = training_options(params, "train", "test" if test else None)
    share = share_to_tell(counted_share(desk, options), params.expected_particles, train, params.radius)
    train_it = training_command(desk, options, params.epochs, share)
    record_program(job.folder / "topaz.json", desk.program, [prepare, train_it])
    desk.run(train_it)
    curve = read_curve(desk.folder / CURVE)
    epoch = chosen_epoch(curve)
    keep_model(job, desk.folder, epoch, pixel_size)
    shutil.rmtree(desk.folder)
    _report(job, curve, epoch, labels, test)


def chosen_epoch(curve: pd.DataFrame) -> int:
    """The epoch with the largest area under precision over recall where micrographs were kept apart, the first of equals; else the last."""
    tested = curve[(curve["split"] == "test") & curve["auprc"].notna()]
    return int(tested["epoch"].loc[tested["auprc"].idxmax()] if len(tested) else curve["epoch"].max())


def _split(job: Job[Params], desk: Desk, labels: Labels) -> tuple[Labels, Labels | None]:
    """(labels to train with, those kept apart, if any), with the lists that Topaz reads of both."""
    numbers = job.numpy_generator("test").permutation(list(labels.pixels)).tolist()
    apart = max(1, round(job.params.test_fraction * len(numbers))) if job.params.test_fraction else 0
    if apart >= len(numbers):
        job.warn("there are too few micrographs to keep one apart, so the last epoch is taken")
        apart = 0
    train, test = labels.of(numbers[apart:]), labels.of(numbers[:apart]) if apart else None
    for name, part in (("train", train), ("test", test)):
        if part:
            write_lists(desk.folder, name, part)
    return train, test


def _report(job: Job[Params], curve: pd.DataFrame, epoch: int, labels: Labels, test: Labels | None) -> None:
    job.metric("micrographs", len(labels.pixels))
    job.metric("known particles", len(labels.table))
    job.metric("epoch", epoch)
    caption = (
        "Left: loss of every step. Right: how well known particles of the micrographs kept apart are told from all else. Red: epoch chosen."
    )
    if test:
        best = curve[(curve["split"] == "test") & (curve["epoch"] == epoch)].iloc[-1]
        job.metric("test micrographs", len(test.pixels))
        job.metric("test area under precision and recall", float(best["auprc"]))
    draw_training(job.figure("training", "Training", caption), curve, epoch)
