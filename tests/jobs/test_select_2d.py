"""select_2d on a classification of simulated particles with false picks, from files to files."""

from pathlib import Path

import numpy as np
import pytest

from false_picks import BOX, classify, select, write_particles
from firn.errors import InputError
from firn.formats.mrc import read_mrc
from firn.formats.tables import read_table


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with 150 particles, 50 false picks, and their classification."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_particles(Path("results/stack"), 150, 50)
        classify()
    return folder


@pytest.fixture
def here(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(run_folder)
    return run_folder


def test_selection_drops_false_picks_and_keeps_particles(here: Path) -> None:
    job = select()
    kept, excluded = (read_table(f"results/keep/{part}particles.star", "particles") for part in ("", "excluded/"))
    assert len(kept) + len(excluded) == 200
    assert kept["firnTrue"].mean() > 0.95
    assert kept["firnTrue"].sum() > 0.9 * 150
    assert job.metrics["particles_kept"]["value"] == len(kept)


def test_the_class_without_an_average_is_kept_by_no_rule(here: Path) -> None:
    select(min_quality=0, min_count=0)
    table = read_table("results/keep/decisions.star", "classes")
    empty = ~read_mrc("results/class2d/classes.mrcs")[0].any(axis=(1, 2))
    assert empty.tolist() == [False] * 5 + [True]
    assert table["kept"].astype(bool).tolist() == (~empty).tolist()
    assert table["reason"][5].startswith("average empty")


def test_kept_averages_keep_their_numbers(here: Path) -> None:
    select()
    before, after = (read_table(f"results/{job}/classes.star", "classes") for job in ("class2d", "keep"))
    averages, _ = read_mrc("results/class2d/classes.mrcs")
    kept, _ = read_mrc("results/keep/classes.mrcs")
    rows = before["class_number"].isin(after["class_number"]).to_numpy()
    assert np.array_equal(averages[rows], kept.reshape(-1, BOX, BOX))
    assert after["class_image"].iloc[0] == "000001@results/keep/classes.mrcs"


def test_a_humans_list_wins_and_both_opinions_are_kept(here: Path) -> None:
    select()
    rule = read_table("results/keep/decisions.star", "classes")
    refused = int(rule.loc[rule["kept"] == 0, "class_number"].iloc[0])
    Path("mine.yaml").write_text(f"select: [{refused}]\n")
    select("by_hand", decisions="mine.yaml")
    decisions = read_table("results/by_hand/decisions.star", "classes")
    assert decisions.loc[decisions["kept"] == 1, "class_number"].tolist() == [refused]
    row = decisions[decisions["class_number"] == refused].iloc[0]
    assert (row["rule"], row["human"]) == ("reject", "select")
    assert set(read_table("results/by_hand/particles.star", "particles")["class_number"]) == {refused}


def test_a_rejected_class_leaves_the_rest_to_the_rules(here: Path) -> None:
    select()
    kept = read_table("results/keep/classes.star", "classes")["class_number"].tolist()
    Path("not_this.yaml").write_text(f"reject: [{kept[0]}]\n")
    select("without", decisions="not_this.yaml", min_quality=0.0)
    assert kept[0] not in read_table("results/without/classes.star", "classes")["class_number"].tolist()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("select: [99]", "names class 99"),
        ("choose: [1]", "expected `select"),
        ("select: 3", "must be a list"),
        ("select: [1]\nreject: [1]", "both"),
    ],
)
def test_a_wrong_decisions_file_is_one_clear_sentence(here: Path, text: str, sentence: str) -> None:
    Path("wrong.yaml").write_text(text)
    with pytest.raises(InputError, match=sentence):
        select("wrong", decisions="wrong.yaml")


def test_no_selected_class_is_one_clear_sentence(here: Path) -> None:
    with pytest.raises(InputError, match="no 2D class is selected"):
        select("nothing", min_count=10_000)
