"""A run comes back from its archive as it was, wherever it is unpacked, or not at all."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from firn.errors import InputError
from firn.upkeep.archive import MANIFEST, archived_names, pack, unpack

MOMENT = 1_700_000_000_123_456_000


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    (run / "results/map/figures").mkdir(parents=True)
    (run / "results/map/map.mrc").write_bytes(bytes(range(256)) * 5000)
    (run / "results/.map.state").mkdir()
    (run / "results/.map.state/poses").write_text("half done")
    (run / ".snakemake/metadata").mkdir(parents=True)
    (run / ".snakemake/metadata/m").write_text("{}")
    (run / ".snakemake/log").mkdir()
    (run / ".snakemake/log/l").write_text("long")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/big.tif").write_bytes(b"x" * 1_000_000)
    (run / "raw").symlink_to("../raw")
    (run / "gone").symlink_to("/nowhere/at/all")
    os.utime(run / "results/map/map.mrc", ns=(MOMENT, MOMENT))
    return run


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.xz"])
def test_files_links_times_and_empty_folders_come_back(run: Path, tmp_path: Path, ending: str) -> None:
    told = pack(run, tmp_path / f"a{ending}")
    back = tmp_path / "deep/er/back"
    assert sorted(unpack(tmp_path / f"a{ending}", back)) == ["gone", "raw"]
    assert (back / "results/map/map.mrc").read_bytes() == (run / "results/map/map.mrc").read_bytes()
    assert abs((back / "results/map/map.mrc").stat().st_mtime_ns - MOMENT) < 1000
    assert os.readlink(back / "raw") == "../raw"
    assert (back / "results/map/figures").is_dir()
    assert (back / ".snakemake/metadata/m").exists()
    assert archived_names(back) == archived_names(run)
    assert told == {"files": 2, "links": 2, "bytes": 256 * 5000 + 2}


def test_what_links_lead_to_and_what_is_half_done_stays_at_home(run: Path, tmp_path: Path) -> None:
    pack(run, tmp_path / "a.tar.gz")
    assert (tmp_path / "a.tar.gz").stat().st_size < 100_000
    names = [str(name) for name in archived_names(run)]
    assert not any(".state" in name or ".snakemake/log" in name for name in names)


def test_an_archive_with_a_changed_file_is_noticed(run: Path, tmp_path: Path) -> None:
    pack(run, tmp_path / "a.tar")
    data = bytearray((tmp_path / "a.tar").read_bytes())
    place = data.index(bytes(range(256)) * 4)
    data[place + 10] ^= 1
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(InputError, match=r"did not come back as they were, the first is results/map/map\.mrc"):
        unpack(tmp_path / "a.tar", tmp_path / "back")


def test_packing_is_refused_while_snakemake_works_into_the_run_itself_and_by_other_names(run: Path, tmp_path: Path) -> None:
    for destination, words in ((run / "a.tar", "lies in the folder"), (tmp_path / "a.zip", "should end in")):
        with pytest.raises(InputError, match=words):
            pack(run, destination)
    (run / ".snakemake/locks").mkdir()
    (run / ".snakemake/locks/0.lock").touch()
    with pytest.raises(InputError, match="at work"):
        pack(run, tmp_path / "a.tar")
    assert not list(tmp_path.glob("*.tar*"))


def test_nothing_is_unpacked_over_a_run_or_from_another_tar(run: Path, tmp_path: Path) -> None:
    pack(run, tmp_path / "a.tar")
    with pytest.raises(InputError, match="not empty"):
        unpack(tmp_path / "a.tar", run)
    with tarfile.open(tmp_path / "b.tar", "w") as other:
        other.addfile(tarfile.TarInfo("x"), io.BytesIO())
    with pytest.raises(InputError, match="no archive of a run"):
        unpack(tmp_path / "b.tar", tmp_path / "back")


@pytest.mark.parametrize("names", [("../out",), ("/tmp/firn_out",), ("link", "link/out")])
def test_no_member_gets_out_of_the_folder(tmp_path: Path, names: tuple[str, ...]) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in (MANIFEST, *names):
            member = tarfile.TarInfo(name)
            member.size = 2
            if name == "link":
                member.type, member.linkname, member.size = tarfile.SYMTYPE, str(tmp_path), 0
            archive.addfile(member, io.BytesIO(b"{}" if member.size else b""))
    with pytest.raises(InputError, match="leads out"):
        unpack(tmp_path / "a.tar", tmp_path / "back")
    assert not (tmp_path / "out").exists()
