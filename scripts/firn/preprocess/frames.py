"""Frames of one movie as the rest of the engine wants them: counts kept small in memory, gain and defects applied on the way out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from firn.kernels.defects import choose_substitutes, find_defects
from firn.kernels.fourier import fast_size, plain_rfft2, resize_spectra2
from firn.kernels.interpolate import periodic_rows

TAPER_SHARE = 1 / 32


@dataclass(frozen=True)
class Frames:
    """Counts `(y, x)` of each frame in the stored type, the gain (the mean one at defects), flat indices `(d,)` of defects, and
    those `(f, d)` of the pixels that take their place in each frame."""

    counts: Sequence[Tensor]
    gain: Tensor | None
    defects: Tensor
    substitutes: Tensor

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, number: int) -> Tensor:
        """Frame `(y, x)`, float32, gain applied and defects replaced."""
        return self.rows(self.counts_of(number), 0, self.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x) in pixels."""
        return self.counts[0].shape[0], self.counts[0].shape[1]

    def counts_of(self, number: int) -> Tensor:
        """Counts `(y, x)` of a frame, defects replaced."""
        frame = self.counts[number].clone()
        frame.view(-1)[self.defects] = frame.view(-1)[self.substitutes[number]]
        return frame

    def rows(self, counts: Tensor, start: int, count: int) -> Tensor:
        """Rows `(count, x)` of a frame's counts from the start, float32, gain applied; the frame repeats itself beyond its edges."""
        values = periodic_rows(counts, start, count).to(torch.float32)
        return values if self.gain is None else values * periodic_rows(self.gain, start, count)


def prepare_frames(counts: Sequence[Tensor], gain: Tensor | None, generator: torch.Generator) -> Frames:
    """Frames with the defects found: where the gain is 0, and where the sum of all frames is hot or dead."""
    total = torch.zeros(counts[0].shape, dtype=torch.float32, device=counts[0].device)
    for frame in counts:
        total += frame
    total = total if gain is None else total * gain
    known = torch.zeros_like(total, dtype=torch.bool) if gain is None else gain == 0
    defects = known | find_defects(torch.where(known, total[~known].mean(), total))
    if gain is not None:
        gain = torch.where(defects, gain[~defects].mean(), gain)
    return Frames(counts, gain, torch.nonzero(defects.flatten())[:, 0], choose_substitutes(defects, len(counts), generator))


def crop_to_resolution(frames: Frames, pixel_size: float, resolution: float) -> tuple[Tensor, tuple[int, int]]:
    """(spectra `(f, y, x)` cut at the resolution (Å), the shape (y, x) of their images); frames lose their mean and are tapered at the edge."""
    shape = frames.shape
    small = tuple(min(fast_size(int(2 * pixel_size / resolution * side) + 1), side - side % 2) for side in shape)
    window = edge_taper(shape[0], frames[0].device)[:, None] * edge_taper(shape[1], frames[0].device)
    spectra = [
        resize_spectra2(plain_rfft2((frame - frame.mean()) * window), shape, (small[0], small[1]))
        for frame in map(frames.__getitem__, range(len(frames)))
    ]
    return torch.stack(spectra), (small[0], small[1])


def edge_taper(size: int, device: torch.device, share: float = TAPER_SHARE) -> Tensor:
    """Window `(size,)`: 1 inside, falling as a raised cosine over the given share of the size at either end."""
    width = max(1, round(size * share))
    distance = torch.minimum(torch.arange(size, device=device), torch.arange(size - 1, -1, -1, device=device)) + 0.5
    return torch.sin(torch.pi / 2 * (distance / width).clamp(max=1)).square()
