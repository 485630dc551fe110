"""Atomic models: assemblies, and renderings in closed form."""

from pathlib import Path

import gemmi
import numpy as np
import pytest

from firn.errors import InputError
from firn.simulate.euler import euler_to_matrix
from firn.simulate.molecule import Molecule, molecule_projection, molecule_spectrum, molecule_volume, read_molecule
from firn.simulate.specimen import load_specimen, project, render


def write_dimer(path: Path) -> None:
    """One chain of carbons, and an assembly of two copies by a half turn about z."""
    structure, model, chain, residue = gemmi.Structure(), gemmi.Model(1), gemmi.Chain("A"), gemmi.Residue()
    residue.name, residue.seqid = "ALA", gemmi.SeqId("1")
    for name, x, y, z in (("N", 10.0, 0.0, 1.0), ("CA", 12.0, 3.0, 2.0), ("C", 9.0, 5.0, -4.0)):
        atom = gemmi.Atom()
        atom.name, atom.pos, atom.element = name, gemmi.Position(x, y, z), gemmi.Element("C")
        residue.add_atom(atom)
    chain.add_residue(residue)
    model.add_chain(chain)
    structure.add_model(model)
    structure.setup_entities()
    text = structure.make_pdb_string()
    biomt = ["REMARK 350 BIOMOLECULE: 1", "REMARK 350 APPLY THE FOLLOWING TO CHAINS: A"]
    for number, (a, b) in enumerate(((1, 1), (-1, -1)), start=1):
        for row, values in enumerate(((a, 0, 0), (0, b, 0), (0, 0, 1)), start=1):
            numbers = "".join(f"{value:10.6f}" for value in values)
            biomt.append(f"REMARK 350   BIOMT{row} {number:3d}{numbers}{0:15.5f}")
    path.write_text("\n".join(biomt) + "\n" + text)


def random_molecule(count: int = 200) -> Molecule:
    chance = np.random.default_rng(2)
    return Molecule(chance.normal(0, 12, (count, 3)), chance.uniform(1, 3, count), 1.5)


def test_the_biological_assembly_is_built_and_centred(tmp_path: Path) -> None:
    write_dimer(tmp_path / "dimer.pdb")
    molecule = read_molecule(tmp_path / "dimer.pdb", 3.0)
    assert len(molecule.weights) == 6
    np.testing.assert_allclose(np.average(molecule.positions, axis=0, weights=molecule.weights), 0, atol=1e-9)
    turned = molecule.positions * [-1, -1, 1]
    assert max(np.linalg.norm(molecule.positions - atom, axis=1).min() for atom in turned) < 1e-3


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pdb").write_text("REMARK nothing\n")
    with pytest.raises(InputError, match="empty"):
        read_molecule(tmp_path / "empty.pdb")
    with pytest.raises(InputError, match="missing"):
        read_molecule(tmp_path / "missing.cif")


@pytest.mark.parametrize("box", [40, 41])
def test_a_projection_is_the_sum_of_the_turned_volume_along_z(box: int) -> None:
    molecule, rotation = random_molecule(), euler_to_matrix(20.0, 50.0, 80.0)
    turned = Molecule(molecule.positions @ rotation, molecule.weights, molecule.sigma)
    expected = molecule_volume(turned, box, 2.0).sum(axis=0)
    np.testing.assert_allclose(molecule_projection(molecule, rotation, box, 2.0), expected, atol=1e-4 * expected.max())


@pytest.mark.parametrize("box", [40, 41])
def test_splatted_atoms_have_the_exact_transform(box: int) -> None:
    molecule = random_molecule(30)
    image = molecule_projection(molecule, np.eye(3), box, 2.0)
    spectrum = np.fft.rfft2(np.fft.ifftshift(image))[: box // 4, : box // 4]
    fy, fx = np.meshgrid(np.fft.fftfreq(box, 2.0)[: box // 4], np.fft.rfftfreq(box, 2.0)[: box // 4], indexing="ij")
    waves = np.exp(-2j * np.pi * (fy[..., None] * molecule.positions[:, 1] + fx[..., None] * molecule.positions[:, 0]))
    expected = (waves @ molecule.weights) * molecule_spectrum(fy**2 + fx**2, molecule.sigma)
    np.testing.assert_allclose(spectrum, expected, atol=5e-3 * np.abs(expected).max())


def test_a_shift_moves_the_particle_by_as_many_angstroms() -> None:
    molecule = random_molecule()
    still = molecule_projection(molecule, np.eye(3), 64, 2.0)
    moved = molecule_projection(molecule, np.eye(3), 64, 2.0, shift_xy=(8.0, -6.0))
    np.testing.assert_allclose(moved, np.roll(still, (-3, 4), axis=(0, 1)), atol=1e-3 * still.max())


def test_phantoms_and_molecules_are_seen_through_the_same_functions() -> None:
    for specimen in (load_specimen("phantom", 6.0, seed=1, radius=40.0), random_molecule()):
        assert np.corrcoef(render(specimen, 32, 4.0).sum(axis=0).ravel(), project(specimen, np.eye(3), 32, 4.0).ravel())[0, 1] > 0.999
