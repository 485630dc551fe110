"""Frames of one movie as the rest of the engine wants them: counts kept small in memory, gain and defects applied on the way out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from firn.kernels.defects import choose_substitutes, find_defects
from firn.kernels.fourier import fast_size_below
from firn.kernels.interpolate import periodic_rows

TAPER_SHARE = 1 / 32
STRIP_ROWS, MOST_BYTES = 128, 128


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
    total = sum_counts(counts)
    if gain is not None:
        dead = torch.nonzero(gain.view(-1) == 0)[:, 0]
        total.mul_(gain).view(-1)[dead] = total.mean()
    bad = find_defects(total)
    if gain is not None:
        bad.view(-1)[dead] = True
        gain = gain.masked_fill(bad, float(gain.mean()))
    return Frames(counts, gain, torch.nonzero(bad.view(-1))[:, 0], choose_substitutes(bad, len(counts), generator))


def sum_counts(counts: Sequence[Tensor]) -> Tensor:
    """Sum `(y, x)` of frames, float32; bytes are added up in 16 bits, as many frames at a time as these hold, strip by strip of rows."""
    total = torch.zeros(counts[0].shape, dtype=torch.float32, device=counts[0].device)
    kind = torch.int16 if counts[0].dtype == torch.uint8 else torch.float32
    for start in range(0, len(total), STRIP_ROWS):
        strip = total[start : start + STRIP_ROWS]
        for first in range(0, len(counts), MOST_BYTES):
            part = torch.zeros(strip.shape, dtype=kind, device=total.device)
            for frame in counts[first : first + MOST_BYTES]:
                part += frame[start : start + STRIP_ROWS]
            strip += part
    return total


def bin_to_resolution(frames: Frames, pixel_size: float, resolution: float) -> tuple[Tensor, float]:
    """(frames `(f, y, x)` of mean 0 in pixels of about half the resolution, that pixel's size), both in Å.

    Counts are binned as they are and the gain of each bin, the harmonic mean of its pixels', is applied
    to their sum: an even illumination comes out even, and no full frame of floats is made.
    """
    factor = max(1, min(round(resolution / (2 * pixel_size)), min(frames.shape) // 16))
    gain = None if frames.gain is None else 1 / bin_images((1 / frames.gain)[None], factor)[0]
    binned = torch.empty(len(frames), *(side // factor for side in frames.shape), device=frames.defects.device)
    for number, image in enumerate(binned):
        torch.mul(bin_images(frames.counts_of(number)[None], factor)[0], 1.0 if gain is None else gain, out=image)
        image -= image.mean()
    return binned, pixel_size * factor


def bin_images(images: Tensor, factor: int) -> Tensor:
    """Means `(n, y // factor, x // factor)` of squares of pixels of images `(n, y, x)`, float32; a remainder at the far edges is left out."""
    height, width = (side // factor * factor for side in images.shape[1:])
    images = images[:, :height, :width]
    if not images.is_floating_point():
        images = images if int(images.max()) * factor**2 < 256 else images.to(torch.int32)
    rows = images[:, ::factor]
    for step in range(1, factor):
        rows = rows + images[:, step::factor]
    total = rows[:, :, ::factor]
    for step in range(1, factor):
        total = total + rows[:, :, step::factor]
    return total.to(torch.float32) / factor**2


def taper_frames(images: Tensor) -> Tensor:
    """Images `(f, y, x)` cut to sides that transform fast, falling to 0 at their edges."""
    height, width = (fast_size_below(side) for side in images.shape[1:])
    window = edge_taper(height, images.device)[:, None] * edge_taper(width, images.device)
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return images[:, top : top + height, left : left + width] * window


def edge_taper(size: int, device: torch.device, share: float = TAPER_SHARE) -> Tensor:
    """Window `(size,)`: 1 inside, falling as a raised cosine over the given share of the size at either end."""
    width = max(1, round(size * share))
    distance = torch.minimum(torch.arange(size, device=device), torch.arange(size - 1, -1, -1, device=device)) + 0.5
    return torch.sin(torch.pi / 2 * (distance / width).clamp(max=1)).square()
