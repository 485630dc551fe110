"""Atomic models as scattering contrast in ice, with projections by splatting atoms.

Convention: positions xyz in Å about the centre of the box (index `n // 2`). Each atom is a Gaussian whose integral is its
electron scattering amplitude at zero angle in Å, with bonded hydrogens added; a share of it, spread over the atom's van der
Waals volume, stands for the ice it displaces. So contrast is low at low resolution and grows beyond 10 Å.
Source: scattering amplitudes c4322 of the International Tables (via gemmi); displaced solvent as in Fraser, MacRae & Suzuki,
J. Appl. Cryst. 11, 693 (1978); mean protein composition C4.9 H7.8 N1.35 O1.48 per 134 Å³ against ice of 0.93 g/cm³.
"""

import os
from dataclasses import dataclass

import gemmi
import numpy as np
import scipy.fft

from firn.errors import InputError

ICE_SHARE = 0.56
ICE_SPREAD = 20.3
"""Å². Fraser's exp(-pi V^(2/3) s²) for the 16 Å³ of a carbon with its hydrogens."""
HYDROGENS = 1.22
"""Scattering of an average protein with its hydrogens over that without."""
MAX_ATOMS = 150_000


@dataclass(frozen=True)
class Molecule:
    """Atoms at positions `(k, 3)` xyz with weights `(k,)` in Å of scattering amplitude; sigma is the blur of each in Å."""

    positions: np.ndarray
    weights: np.ndarray
    sigma: float

    @property
    def radius(self) -> float:
        """Å. Distance from the centre of the farthest atom."""
        return float(np.linalg.norm(self.positions, axis=1).max())


def read_molecule(path: str | os.PathLike, resolution: float = 3.0) -> Molecule:
    """Biological assembly of a PDB or mmCIF file (gzipped or not), its centre of mass on the origin, blurred to a resolution in Å.

    Raises InputError when the file cannot be read or has no atoms.
    """
    try:
        structure = gemmi.read_structure(str(path))
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a PDB or mmCIF model ({error})") from error
    if not len(structure) or structure[0].count_atom_sites() == 0:
        raise InputError(f"{path}: has no atoms")
    structure.setup_entities()
    structure.remove_waters()
    positions, weights = _atoms(_assembly(structure))
    if len(weights) > MAX_ATOMS:
        positions, weights = _pool(positions, weights, cell=0.5 * resolution)
    positions -= np.average(positions, axis=0, weights=weights)
    return Molecule(positions, weights, blur(resolution))


def blur(resolution: float) -> float:
    """Å. Standard deviation of a Gaussian whose transform falls to 1/e at 1 / resolution."""
    return resolution / (np.pi * np.sqrt(2))


def molecule_spectrum(s2: np.ndarray, sigma: float) -> np.ndarray:
    """Transform of a unit atom at squared frequencies s2 in 1/Å²: its Gaussian times what stands out of the ice."""
    return np.exp(-2 * np.pi**2 * sigma**2 * s2) * (1 - ICE_SHARE * np.exp(-ICE_SPREAD * s2))


def molecule_projection(
    molecule: Molecule, rotation: np.ndarray, box: int, pixel_size: float, shift_xy: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """Projected contrast per pixel `(y, x)` float32; arguments as in phantom_projection."""
    seen = (molecule.positions @ rotation)[:, :2] + np.asarray(shift_xy)
    return _render(seen[:, ::-1], molecule.weights, molecule.sigma, box, pixel_size)


def molecule_volume(molecule: Molecule, box: int, pixel_size: float) -> np.ndarray:
    """Contrast per voxel `(z, y, x)` float32; its sum along z is the projection at R = 1."""
    return _render(molecule.positions[:, ::-1], molecule.weights, molecule.sigma, box, pixel_size)


def _assembly(structure: gemmi.Structure) -> gemmi.Model:
    """First biological assembly, or the model as it stands when the file names none."""
    if not structure.assemblies:
        return structure[0]
    model = gemmi.make_assembly(structure.assemblies[0], structure[0], gemmi.HowToNameCopiedChain.Dup)
    return model if model.count_atom_sites() else structure[0]


def _atoms(model: gemmi.Model) -> tuple[np.ndarray, np.ndarray]:
    found = [(atom.pos.tolist(), atom.occ, atom.element) for chain in model for residue in chain for atom in residue]
    amplitudes = {element.name: element.c4322.calculate_sf(stol2=0) for element in {element for _, _, element in found}}
    has_hydrogens = "H" in amplitudes
    weights = np.array([occ * amplitudes[element.name] for _, occ, element in found])
    return np.array([position for position, _, _ in found]), weights * (1.0 if has_hydrogens else HYDROGENS)


def _pool(positions: np.ndarray, weights: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Atoms of one cubic cell become one, at their mean: makes large assemblies quick."""
    _, owner = np.unique(np.floor(positions / cell).astype(np.int64), axis=0, return_inverse=True)
    total = np.bincount(owner.ravel(), weights)
    means = [np.bincount(owner.ravel(), weights * positions[:, i]) / total for i in range(3)]
    return np.stack(means, axis=1), total


def _render(points: np.ndarray, weights: np.ndarray, sigma: float, box: int, pixel_size: float) -> np.ndarray:
    """Points `(k, d)` in array axis order, splatted on a grid twice as fine; there the splat is undone and the atom's shape put in."""
    dims = points.shape[1]
    splat = _splat(points / (0.5 * pixel_size) + 2 * (box // 2), weights, 2 * box)
    spectrum = scipy.fft.rfftn(splat)[..., : box // 2 + 1]
    for axis in range(dims - 1):
        spectrum = np.take(spectrum, np.round(np.fft.fftfreq(box) * box).astype(int), axis=axis)
    frequencies = [np.fft.fftfreq(box)] * (dims - 1) + [np.fft.rfftfreq(box)]
    lines = np.meshgrid(*frequencies, indexing="ij", sparse=True)
    shape = molecule_spectrum(sum(line**2 for line in lines) / pixel_size**2, sigma)
    for line in lines:
        shape /= np.sinc(line / 2) ** 4
    return scipy.fft.irfftn(spectrum * shape.astype(np.float32), s=(box,) * dims)


def _splat(points: np.ndarray, weights: np.ndarray, n: int) -> np.ndarray:
    """Weights spread by cubic B-splines over the nearest 4^d nodes of a periodic grid `(n, ...)`, float32."""
    base = np.floor(points).astype(np.int64)
    fraction = points - base
    share, place = weights[:, None], np.zeros((len(points), 1), dtype=np.int64)
    for axis in range(points.shape[1]):
        share = (share[:, :, None] * _cubic_weights(fraction[:, axis])[:, None, :]).reshape(len(points), -1)
        nodes = (base[:, axis, None] + np.arange(-1, 3)) % n
        place = (place[:, :, None] * n + nodes[:, None, :]).reshape(len(points), -1)
    grid = np.bincount(place.ravel(), share.ravel(), minlength=n ** points.shape[1])
    return grid.astype(np.float32).reshape((n,) * points.shape[1])


def _cubic_weights(t: np.ndarray) -> np.ndarray:
    """Cubic B-spline at the nodes -1, 0, 1, 2 around a point at t in [0, 1), `(k, 4)`."""
    return np.stack(((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3), axis=1) / 6
