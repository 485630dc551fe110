"""What is put under the simulated microscope: an atomic model or a phantom, seen through one pair of functions.

Both give scattering contrast against ice in Å of amplitude, per pixel or voxel.
"""

import numpy as np

from firn.simulate.molecule import Molecule, molecule_projection, molecule_volume, read_molecule
from firn.simulate.phantom import Phantom, phantom_projection, phantom_volume, random_phantom

Specimen = Molecule | Phantom
PROTEIN_CONTRAST = 0.074
"""Å of scattering amplitude per Å³ by which protein exceeds ice."""
PHANTOM_FILLING = 0.35
"""Share of a phantom's sphere that its protein fills."""


def load_specimen(model: str, resolution: float, seed: int, radius: float = 60.0, count: int = 120) -> Specimen:
    """`phantom` (radius in Å and count of Gaussians as given, drawn from the seed) or the path of a PDB or mmCIF file.

    resolution in Å, no finer than two pixels of what will be made of it.
    """
    if model != "phantom":
        return read_molecule(model, resolution)
    phantom = random_phantom(count, radius, seed, widths=(0.4 * resolution, 0.9 * resolution))
    total = PROTEIN_CONTRAST * PHANTOM_FILLING * 4 / 3 * np.pi * radius**3
    return Phantom(phantom.positions, phantom.widths, phantom.weights * (total / phantom.weights.sum()))


def project(
    specimen: Specimen, rotation: np.ndarray, box: int, pixel_size: float, shift_xy: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """Projection `(y, x)` float32 at r_volume = R r_image; shift_xy in Å moves the particle in the image."""
    if isinstance(specimen, Molecule):
        return molecule_projection(specimen, rotation, box, pixel_size, shift_xy)
    return phantom_projection(specimen, rotation, box, pixel_size, shift_xy)


def render(specimen: Specimen, box: int, pixel_size: float) -> np.ndarray:
    """Volume `(z, y, x)` float32."""
    if isinstance(specimen, Molecule):
        return molecule_volume(specimen, box, pixel_size)
    return phantom_volume(specimen, box, pixel_size)
