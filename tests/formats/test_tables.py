"""Tables: optics joined and split, columns kept, batches, image names."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile

from firn.errors import InputError
from firn.formats.star import read_star, write_star
from firn.formats.tables import concatenate, image_names, read_table, require_columns, split_image_names, write_batches, write_table

RELION_EXAMPLE = Path(__file__).parents[1] / "data" / "relion_3.1_run_data.star"


def particles(count: int = 6) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image": image_names("a.mrcs", count),
            "defocus_u": np.linspace(1e4, 2e4, count),
            "voltage_kv": [300.0, 200.0] * (count // 2),
            "image_pixel_size": 1.5,
            "ownLabel": range(count),
        }
    )


def test_optics_are_split_on_disk_and_joined_in_memory(tmp_path):
    write_table(tmp_path / "p.star", particles(), "particles")
    blocks = read_star(tmp_path / "p.star")
    assert blocks["optics"]["rlnVoltage"].tolist() == [300, 200]
    assert blocks["particles"]["rlnOpticsGroup"].tolist() == [1, 2, 1, 2, 1, 2]
    assert "rlnVoltage" not in blocks["particles"].columns
    back = read_table(tmp_path / "p.star", "particles")
    pd.testing.assert_frame_equal(back[particles().columns], particles(), check_dtype=False)


def test_a_filtered_or_doubled_index_does_not_mix_up_the_optics(tmp_path):
    table = pd.concat([particles(), particles()])
    table = table[table["ownLabel"] > 1]
    write_table(tmp_path / "p.star", table, "particles")
    back = read_table(tmp_path / "p.star", "particles")
    assert back["voltage_kv"].tolist() == table["voltage_kv"].tolist()
    assert len(read_star(tmp_path / "p.star")["optics"]) == 2


def test_what_relion_wrote_is_read_as_starfile_reads_it_and_survives_a_round_trip(tmp_path):
    table, judge = read_table(RELION_EXAMPLE, "particles"), starfile.read(RELION_EXAMPLE)
    assert len(table) == len(judge["particles"])
    assert table["voltage_kv"].unique().tolist() == judge["optics"]["rlnVoltage"].tolist()
    for name, label in {"defocus_u": "rlnDefocusU", "rot": "rlnAngleRot", "origin_x": "rlnOriginXAngst", "half": "rlnRandomSubset"}.items():
        assert np.allclose(table[name], judge["particles"][label])
    write_table(tmp_path / "again.star", table, "particles")
    again = starfile.read(tmp_path / "again.star")
    assert set(judge["particles"].columns) <= set(again["particles"].columns)
    assert set(judge["optics"].columns) <= set(again["optics"].columns)
    for label in judge["particles"].columns:
        same = np.allclose if pd.api.types.is_numeric_dtype(judge["particles"][label]) else np.array_equal
        assert same(again["particles"][label], judge["particles"][label]), label


def test_an_empty_table_keeps_the_names_of_its_columns(tmp_path):
    write_table(tmp_path / "p.star", particles().iloc[:0], "particles")
    back = read_table(tmp_path / "p.star", "particles")
    assert back.empty
    assert set(back.columns) == set(particles().columns)


def test_a_missing_column_is_named_by_file_and_relion_label(tmp_path):
    write_table(tmp_path / "p.star", particles(), "particles")
    with pytest.raises(InputError, match=r"p\.star: has no column _rlnDefocusV"):
        read_table(tmp_path / "p.star", "particles", needs=("defocus_u", "defocus_v"))
    require_columns(particles(), ["image"], "here")


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"a": pd.DataFrame({"x": [1]}), "b": pd.DataFrame({"x": [1]})}, "has no block data_particles"),
        ({"optics": pd.DataFrame({"rlnOpticsGroup": [1]}), "particles": pd.DataFrame({"rlnOpticsGroup": [2]})}, "optics group 2"),
        ({"optics": pd.DataFrame({"rlnOpticsGroup": [1]}), "particles": pd.DataFrame({"x": [2]})}, "no column _rlnOpticsGroup"),
    ],
)
def test_blocks_that_do_not_fit_together_are_refused(tmp_path, blocks, message):
    write_star(tmp_path / "p.star", blocks)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "p.star", "particles")


def test_every_batch_gets_a_table_even_an_empty_one(tmp_path):
    table = pd.DataFrame({"exposure_id": ["e1", "e2"], "batch": ["0001", "0003"]})
    write_batches(tmp_path, table, "exposures", ["0001", "0002", "0003"])
    counts = [len(read_table(tmp_path / "batches" / batch / "exposures.star", "exposures")) for batch in ("0001", "0002", "0003")]
    assert counts == [1, 0, 1]


def test_tables_are_united_in_order_and_absent_files_skipped(tmp_path):
    write_table(tmp_path / "a.star", particles(2), "particles")
    write_table(tmp_path / "b.star", particles(4).iloc[:0], "particles")
    write_table(tmp_path / "c.star", particles(4), "particles")
    united = concatenate([tmp_path / f"{name}.star" for name in "abcd"], "particles")
    assert united["ownLabel"].tolist() == [0, 1, 0, 1, 2, 3]


def test_image_names_count_from_one_and_split_to_zero():
    sections, stacks = split_image_names(image_names("x@y/a.mrcs", 3))
    assert sections.tolist() == [0, 1, 2]
    assert set(stacks) == {"x@y/a.mrcs"}
    with pytest.raises(InputError, match=r"'a\.mrcs' is not an image name"):
        split_image_names(["a.mrcs"])
