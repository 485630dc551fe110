"""Try values of a parameter of Topaz's training on folds of the micrographs, and train a model with the best of them."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import pandas as pd
from pydantic import Field, model_validator

from firn.errors import InputError
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
from firn.report.training import draw_cross_validation, draw_training
from firn.runtime.job import Job

TOLD = ("value", "fold", "epoch", "auprc", "precision", "tpr", "f1")
ALLOWED_UNITS = get_args(TrainingParams.model_fields["units"].annotation)


class Params(TrainingParams):
    """Train with several values of one parameter and choose the best, by the program `topaz`, which is installed apart from this one.

    The micrographs are dealt into folds. With each value a model is trained once for every fold, from the micrographs of the others, and
    judged by the known particles of its own. The value and the number of epochs with the largest mean area under precision over recall
    train the model that is offered, from all micrographs.
    """

    parameter: Literal["expected_particles", "learning_rate", "units"] = "expected_particles"
    """Parameter that is tried."""
    values: tuple[float, ...] = Field(min_length=2)
    """Its values, such as `[100, 200, 400]`."""
    expected_particles: float | None = Field(None, gt=0)
    """Particles that a micrograph has on average, known or not; where they are not what is tried."""
    folds: int = Field(5, ge=2)
    """Parts that the micrographs are dealt into; as many as there are micrographs at most."""

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if min(self.values) <= 0 or len(set(self.values)) < len(self.values):
            raise ValueError("values must be larger than 0 and differ from each other")
        if (self.expected_particles is None) != (self.parameter == "expected_particles"):
            raise ValueError("give expected_particles where it is not the parameter that is tried, and only there")
        if self.parameter == "units" and not set(self.values) <= set(ALLOWED_UNITS):
            raise ValueError(f"values of units are {', '.join(map(str, ALLOWED_UNITS))}")
        return self

    def with_value(self, value: float) -> "Params":
        """These parameters with one of the values."""
        return self.model_copy(update={self.parameter: int(value) if self.parameter == "units" else value})

    @property
    def expected(self) -> float:
        """Particles that a micrograph has."""
        if self.expected_particles is None:
            raise InputError("expected_particles has no value yet")
        return self.expected_particles


def run(job: Job[Params]) -> None:
    """Write model.sav, model.json, training.tsv of the last training, cross_validation.tsv (every epoch of every fold) and topaz.json."""
    params = job.params
    desk = Desk(find_program("topaz", params.executable), (job.folder / WORK).absolute(), job.device, job.threads)
    desk.folder.mkdir()
    labels, pixel_size = put_known(job, desk)
    folds = _folds(job, labels)
    for value in params.values:
        for fold in (*folds, []):
            check_expected(job, params.with_value(value).expected, _others(labels, fold))
    prepare = desk.normalise([whole_file(number) for number in labels.pixels])
    desk.run(prepare)
    told = _validated(job, desk, labels, folds)
    told.to_csv(job.folder / "cross_validation.tsv", sep="\t", index=False)
    value, epoch = best_of(told)
    train_it = _prepared(job, desk, labels, [], "").command(desk, params.with_value(value), epoch)
    record_program(job.folder / "topaz.json", desk.program, [prepare, train_it])
    desk.run(train_it)
    curve = read_curve(desk.folder / CURVE)
    keep_model(job, desk.folder, epoch, pixel_size, **{params.parameter: value})
    shutil.rmtree(desk.folder)
    _report(job, told, value, epoch, labels)
    draw_training(job.figure("training", "Training of the model", "Loss of every step, from all micrographs."), curve, epoch)


def best_of(told: pd.DataFrame) -> tuple[float, int]:
    """(value, epoch) of the largest mean area over all folds, the first of equals; raises InputError where no area is told."""
    means = told.groupby(["value", "epoch"], sort=False)["auprc"].agg(lambda areas: areas.mean(skipna=False))
    if not means.notna().any():
        raise InputError("topaz train told no area under precision over recall, so no value is the best")
    value, epoch = means.idxmax()
    return float(value), int(epoch)


def _folds(job: Job[Params], labels: Labels) -> list[list[int]]:
    """Numbers of the micrographs of each fold, dealt by chance."""
    numbers = job.numpy_generator("folds").permutation(list(labels.pixels)).tolist()
    if len(numbers) < 2:
        raise InputError(f"job {job.name}: there is one micrograph with known particles alone; two folds need two")
    count = min(job.params.folds, len(numbers))
    if count < job.params.folds:
        job.warn(f"there are {count} micrographs with known particles, so there are {count} folds instead of {job.params.folds}")
    return [numbers[fold::count] for fold in range(count)]


def _others(labels: Labels, fold: Sequence[int]) -> Labels:
    return labels.of([number for number in labels.pixels if number not in fold])


def _validated(job: Job[Params], desk: Desk, labels: Labels, folds: Sequence[Sequence[int]]) -> pd.DataFrame:
    """What is told of every fold (from 1) with every value after every epoch: the columns TOLD. Trainings done before a kill are not done anew."""
    rounds = [(value, number) for value in job.params.values for number in range(1, len(folds) + 1)]
    done = (job.checkpoint.load() or {"rows": []})["rows"]
    course: dict[int, Training] = {}
    for value, number in job.over(rounds[len(done) :], "trainings"):
        if number not in course:
            course[number] = _prepared(job, desk, labels, folds[number - 1], str(number))
        desk.run(course[number].command(desk, job.params.with_value(value), job.params.epochs))
        done.append(_tested(read_curve(desk.folder / CURVE)).assign(value=value, fold=number)[list(TOLD)].to_dict("list"))
        job.checkpoint.save({"rows": done})
    return pd.concat([pd.DataFrame(rows) for rows in done], ignore_index=True)


@dataclass(frozen=True)
class Training:
    """What one fold, or none, leaves to learn from: labels, names of the lists to learn from and to judge by, the share that Topaz counts."""

    labels: Labels
    lists: tuple[str, str | None]
    counted: float

    def command(self, desk: Desk, params: Params, epochs: int) -> list[str]:
        """Command that trains with these parameters."""
        share = share_to_tell(self.counted, params.expected, self.labels, params.radius)
        return training_command(desk, training_options(params, *self.lists), epochs, share)


def _prepared(job: Job[Params], desk: Desk, labels: Labels, fold: Sequence[int], name: str) -> Training:
    """Lists written, and labels counted, of a training that does not see a fold; how Topaz counts does not depend on the values tried."""
    train, lists = _others(labels, fold), (f"train{name}", f"test{name}" if fold else None)
    write_lists(desk.folder, lists[0], train)
    if lists[1]:
        write_lists(desk.folder, lists[1], labels.of(fold))
    return Training(train, lists, counted_share(desk, training_options(job.params, *lists)))


def _tested(curve: pd.DataFrame) -> pd.DataFrame:
    rows = curve[curve["split"] == "test"]
    both = rows["precision"] + rows["tpr"]
    return rows.assign(f1=(2 * rows["precision"] * rows["tpr"] / both.where(both > 0)).fillna(0.0))


def _report(job: Job[Params], told: pd.DataFrame, value: float, epoch: int, labels: Labels) -> None:
    best = told[(told["value"] == value) & (told["epoch"] == epoch)]
    job.metric("micrographs", len(labels.pixels))
    job.metric("known particles", len(labels.table))
    job.metric("folds", int(told["fold"].max()))
    job.metric(job.params.parameter, value)
    job.metric("epoch", epoch)
    job.metric("mean area under precision and recall", float(best["auprc"].mean()))
    job.metric("mean F1", float(best["f1"].mean()))
    if value in (min(job.params.values), max(job.params.values)):
        job.warn(f"the best {job.params.parameter}, {value:g}, is at the end of the values tried; try values beyond it")
    name = job.params.parameter.replace("_", " ")
    caption = "Left: area of each fold at the best epoch of each value, and their mean. Right: mean over the folds after every epoch. Red: what was chosen."
    draw_cross_validation(job.figure("cross_validation", f"Cross validation: {value:g} {name} chosen", caption), told, name, (value, epoch))
