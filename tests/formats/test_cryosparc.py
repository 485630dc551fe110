"""CryoSPARC's tables: poses by the textbook, nothing lost there and back, and damaged files said so."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.cryosparc import euler_angles, join_cs, particles_from_cs, particles_to_cs, read_cs, rotation_vectors, write_cs
from firn.simulate.euler import euler_to_matrix, random_matrices, rotation_angle

POLES = np.array([[10.0, 0.0, 20.0], [30.0, 180.0, -50.0], [0.0, 0.0, 0.0], [170.0, 90.0, 170.0], [180.0, 0.0, 0.0], [0.0, 1e-4, 0.0]])


def rodrigues(vectors: np.ndarray) -> np.ndarray:
    """Rotation matrices about vectors by their length, from Rodrigues' formula."""
    size = np.linalg.norm(vectors, axis=1)
    x, y, z = (vectors / np.maximum(size, 1e-12)[:, None]).T
    zero = np.zeros_like(x)
    cross = np.stack([np.stack(row, axis=1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))], axis=1)
    sin, cos = np.sin(size)[:, None, None], np.cos(size)[:, None, None]
    return np.eye(3) + sin * cross + (1 - cos) * cross @ cross


def random_angles(count: int = 200) -> np.ndarray:
    chance = np.random.default_rng(4)
    return np.stack((chance.uniform(-180, 180, count), chance.uniform(0, 180, count), chance.uniform(-180, 180, count)), axis=1)


@pytest.mark.parametrize("angles", [random_angles(), POLES], ids=["anywhere", "poles"])
def test_a_pose_is_the_rotation_vector_from_image_to_volume(angles: np.ndarray):
    vectors = rotation_vectors(angles)
    assert np.linalg.norm(vectors, axis=1).max() <= np.pi + 1e-9
    np.testing.assert_allclose(rodrigues(vectors), euler_to_matrix(*angles.T), atol=1e-9)


@pytest.mark.parametrize("angles", [random_angles(), POLES], ids=["anywhere", "poles"])
def test_angles_of_a_pose_in_single_precision_are_those_it_was_made_from(angles: np.ndarray):
    found = euler_angles(rotation_vectors(angles).astype(np.float32).astype(np.float64))
    turned = np.linalg.norm(euler_to_matrix(*found.T) - euler_to_matrix(*angles.T), axis=(1, 2)) / np.sqrt(2)
    assert np.rad2deg(turned).max() < 1e-3
    assert (np.abs(found) <= 180).all()


def test_the_hand_is_that_of_rotations_not_of_their_inverse():
    matrices = random_matrices(20, np.random.default_rng(1))
    assert rotation_angle(matrices, np.swapaxes(matrices, 1, 2)).min() > 1
    np.testing.assert_allclose(
        rodrigues(rotation_vectors(np.array([[30.0, 0.0, 0.0]])))[0] @ [1, 0, 0], [np.cos(np.pi / 6), 0.5, 0], atol=1e-12
    )


def table(count: int = 50, **columns: object) -> pd.DataFrame:
    chance = np.random.default_rng(9)
    angles = random_angles(count)
    given = {
        "image": [f"{number // 2 + 1:06d}@results/stack/{number % 2}.mrcs" for number in range(count)],
        "particle_id": [f"e{number % 3}-{number:05d}" for number in range(count)], "exposure_id": [f"e{number % 3}" for number in range(count)],
        "batch": "0001", "micrograph": [f"results/motion/{number % 3}.mrc" for number in range(count)], "image_pixel_size": 1.0825, "box_px": 256,
        "x_px": chance.uniform(0, 4096, count), "y_px": chance.uniform(0, 4092, count), "half": 1 + np.arange(count) % 2, "voltage_kv": 300.0,
        "cs_mm": 2.7, "amplitude_contrast": 0.1, "defocus_u": chance.uniform(5e3, 3e4, count), "defocus_v": chance.uniform(5e3, 3e4, count),
        "defocus_angle": chance.uniform(-90, 90, count), "phase_shift": chance.uniform(0, 180, count), "rot": angles[:, 0], "tilt": angles[:, 1],
        "psi": angles[:, 2], "origin_x": chance.normal(0, 5, count), "origin_y": chance.normal(0, 5, count), "class_number": chance.integers(1, 9, count),
        "class_probability": chance.random(count), "scale": chance.normal(1, 0.1, count), "optics_name": [f"tilt {number % 4}" for number in range(count)],
        "rlnLogLikeliContribution": chance.normal(1e5, 10, count), "pick_score": np.where(np.arange(count) % 7, 0.3, np.nan),
    }  # fmt: skip
    return pd.DataFrame(given).assign(**columns)


SHAPES = {f"results/motion/{number}.mrc": (4092, 4096) for number in range(3)}
COARSE = {
    "x_px": 1e-3,
    "y_px": 1e-3,
    "origin_x": 1e-3,
    "origin_y": 1e-3,
    "defocus_u": 0.01,
    "defocus_v": 0.01,
    "defocus_angle": 1e-3,
    "phase_shift": 1e-3,
}


def there_and_back(particles: pd.DataFrame, shapes: dict[str, tuple[int, int]], path: Path) -> pd.DataFrame:
    write_cs(path, particles_to_cs(particles, shapes))
    return particles_from_cs(read_cs(path), path)


@pytest.mark.parametrize("shapes", [SHAPES, {}], ids=["on micrographs", "micrographs gone"])
def test_no_column_and_no_half_set_is_lost_there_and_back(shapes: dict[str, tuple[int, int]], tmp_path: Path):
    particles = table()
    found = there_and_back(particles, shapes, tmp_path / "a.cs")
    assert set(particles.columns) - {"box_px"} <= set(found.columns)
    for name in set(particles.columns) - {"box_px", "rot", "tilt", "psi"}:
        if particles[name].dtype.kind in "if":
            np.testing.assert_allclose(found[name], particles[name], rtol=1e-6, atol=COARSE.get(name, 0), err_msg=name)
        else:
            assert list(found[name]) == list(particles[name]), name
    turned = [euler_to_matrix(*one[["rot", "tilt", "psi"]].to_numpy().T) for one in (found, particles)]
    assert np.rad2deg(np.linalg.norm(turned[0] - turned[1], axis=(1, 2)).max() / np.sqrt(2)) < 1e-3


def test_particles_with_2d_poses_only_become_2d_alignments(tmp_path: Path):
    particles = table().drop(columns=["rot", "tilt"])
    fields = particles_to_cs(particles, SHAPES)
    assert "alignments3D/pose" not in fields
    np.testing.assert_allclose(fields["alignments2D/pose"], np.deg2rad(particles["psi"]), rtol=1e-6)
    found = there_and_back(particles, SHAPES, tmp_path / "a.cs")
    np.testing.assert_allclose(found["psi"], particles["psi"], atol=1e-3)
    assert "rot" not in found


def test_fields_are_in_cryosparcs_units():
    fields = particles_to_cs(table(defocus_angle=90.0, origin_x=2.165, x_px=1024.0, y_px=1023.0, half=2), SHAPES)
    assert fields["ctf/df_angle_rad"][0] == pytest.approx(np.pi / 2)
    assert fields["alignments3D/shift"][0, 0] == pytest.approx(2.0)
    assert (fields["location/center_x_frac"][0], fields["location/center_y_frac"][0]) == (0.25, 0.25)
    assert fields["alignments3D/split"][0] == 1
    assert fields["blob/path"][3] == b"results/stack/1.mrcs"
    assert fields["blob/idx"][3] == 1
    assert len(np.unique(fields["uid"])) == 50


def test_ids_of_cryosparc_are_kept_to_the_last_bit(tmp_path: Path):
    fields = particles_to_cs(table(), SHAPES) | {"uid": np.arange(50, dtype=np.uint64) + np.uint64(2**64 - 51)}
    write_cs(tmp_path / "a.cs", fields)
    found = particles_from_cs(read_cs(tmp_path / "a.cs"), "a.cs")
    np.testing.assert_array_equal(particles_to_cs(found.assign(box_px=256), SHAPES)["uid"], fields["uid"])


def test_a_passthrough_file_is_matched_by_uid_whatever_its_order(tmp_path: Path):
    fields = particles_to_cs(table(), SHAPES)
    first = {name: values for name, values in fields.items() if not name.startswith("ctf/")}
    other = {name: values[::-1] for name, values in fields.items() if name == "uid" or name.startswith("ctf/")}
    np.testing.assert_array_equal(join_cs(first, other, "b.cs")["ctf/df1_A"], fields["ctf/df1_A"])
    with pytest.raises(InputError, match="passthrough"):
        particles_from_cs(first, "a.cs")
    with pytest.raises(InputError, match="lacks 10 of 50"):
        join_cs(first, {name: values[10:] for name, values in other.items()}, "b.cs")


def test_damaged_files_are_said_to_be(tmp_path: Path):
    path = tmp_path / "a.cs"
    write_cs(path, particles_to_cs(table(), SHAPES))
    whole = path.read_bytes()
    for content in (b"", whole[:200], whole[:-10], b"PK" + whole, b"\x94CSDAT" + whole):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.cs: "):
            read_cs(path)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    with pytest.raises(InputError, match="named fields"):
        read_cs(path.with_suffix(".npy"))


def test_pickled_objects_are_never_loaded(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError):
        read_cs(tmp_path / "a.npy")


def test_cryosparcs_own_reader_reads_it(tmp_path: Path):
    dataset = pytest.importorskip("cryosparc.dataset")
    fields = particles_to_cs(table(), SHAPES)
    write_cs(tmp_path / "a.cs", fields)
    found = dataset.Dataset.load(str(tmp_path / "a.cs"))
    assert set(found.fields()) == set(fields)
    np.testing.assert_array_equal(found["alignments3D/pose"], fields["alignments3D/pose"])
    assert str(found["blob/path"][0]) == "results/stack/0.mrcs"


def test_what_cryosparcs_own_writer_writes_is_read_and_its_streaming_form_refused(tmp_path: Path):
    dataset = pytest.importorskip("cryosparc.dataset")
    fields = particles_to_cs(table(), SHAPES)
    write_cs(tmp_path / "a.cs", fields)
    theirs = dataset.Dataset.load(str(tmp_path / "a.cs"))
    theirs.save(str(tmp_path / "b.cs"))
    found = read_cs(tmp_path / "b.cs")
    assert set(found) == set(fields)
    for name, values in fields.items():
        np.testing.assert_array_equal(found[name], values)
    theirs.save(str(tmp_path / "c.cs"), format=dataset.CSDAT_FORMAT)
    with pytest.raises(InputError, match="streaming form"):
        read_cs(tmp_path / "c.cs")
