"""Contrast transfer function.

Convention: defocus in Å, positive = underfocus; defocus_angle in degrees from +x towards +y (towards increasing row) to
the defocus_u axis; RELION's sign: CTF = sin(chi), which is +amplitude_contrast at zero frequency, for particle images
whose protein is white (extraction inverts the contrast; in a micrograph protein is dark and the factor is -CTF).
chi = pi lambda z(azimuth) s^2 - pi/2 Cs lambda^3 s^4 + phase_shift + atan(A / sqrt(1 - A^2)).
Source: Rohou & Grigorieff, J. Struct. Biol. 192, 216 (2015), eqs. 1-3; sign as in RELION's ctf.h.
"""

import torch
from torch import Tensor


def wavelength(voltage_kv: Tensor | float) -> Tensor:
    """Relativistic electron wavelength in Å (float64) for a voltage in kV."""
    volts = torch.as_tensor(voltage_kv).to(torch.float64) * 1e3
    return 12.2643247 / torch.sqrt(volts * (1 + volts * 0.978466e-6))


def ctf_phase(
    frequencies: Tensor,
    defocus_u: Tensor | float,
    defocus_v: Tensor | float,
    defocus_angle: Tensor | float,
    voltage_kv: Tensor | float,
    cs_mm: Tensor | float,
    phase_shift: Tensor | float = 0.0,
    amplitude_contrast: Tensor | float = 0.1,
) -> Tensor:
    """chi `(b, *grid)` in radians, float32, at frequencies `(*grid, 2)` yx in 1/Å.

    Per-image parameters have shape `(b,)` or are scalars: defocus in Å, angles and phase_shift in degrees, cs in mm.
    The phase is linear in four images of the grid, so that a batch is one small matrix product.
    """
    given = (defocus_u, defocus_v, defocus_angle, voltage_kv, cs_mm, phase_shift, amplitude_contrast)
    columns = torch.broadcast_tensors(*(torch.as_tensor(value, device=frequencies.device).double().reshape(-1) for value in given))
    coefficients, constant = _phase_coefficients(*columns)
    fy, fx = frequencies.double().unbind(-1)
    s2 = fx**2 + fy**2
    basis = torch.stack((s2, fx**2 - fy**2, 2 * fx * fy, s2**2)).float()
    return torch.tensordot(coefficients.float(), basis, dims=1) + constant.float().reshape(-1, *([1] * s2.ndim))


def ctf_2d(
    frequencies: Tensor,
    defocus_u: Tensor | float,
    defocus_v: Tensor | float,
    defocus_angle: Tensor | float,
    voltage_kv: Tensor | float,
    cs_mm: Tensor | float,
    phase_shift: Tensor | float = 0.0,
    amplitude_contrast: Tensor | float = 0.1,
) -> Tensor:
    """CTF values `sin(chi)`, `(b, *grid)`, float32; arguments as in ctf_phase."""
    return torch.sin(ctf_phase(frequencies, defocus_u, defocus_v, defocus_angle, voltage_kv, cs_mm, phase_shift, amplitude_contrast))


def _phase_coefficients(
    defocus_u: Tensor,
    defocus_v: Tensor,
    defocus_angle: Tensor,
    voltage_kv: Tensor,
    cs_mm: Tensor,
    phase_shift: Tensor,
    amplitude_contrast: Tensor,
) -> tuple[Tensor, Tensor]:
    lam = wavelength(voltage_kv)
    mean, half = (defocus_u + defocus_v) / 2, (defocus_u - defocus_v) / 2
    double_angle = 2 * torch.deg2rad(defocus_angle)
    spherical = -0.5 * cs_mm * 1e7 * lam**2
    per_basis = (mean, half * torch.cos(double_angle), half * torch.sin(double_angle), spherical)
    contrast_phase = torch.atan(amplitude_contrast / torch.sqrt(1 - amplitude_contrast**2))
    return torch.pi * lam[:, None] * torch.stack(per_basis, dim=-1), torch.deg2rad(phase_shift) + contrast_phase
