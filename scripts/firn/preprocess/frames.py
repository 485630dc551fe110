"""Frames of one movie as the rest of the engine wants them: counts kept small in memory, gain and defects applied on the way out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import torch
from torch import Tensor

from firn.kernels.defects import choose_substitutes, find_defects, places_of
from firn.kernels.fourier import fast_size_below
from firn.kernels.interpolate import periodic_rows

TAPER_SHARE = 1 / 32
STRIP_ROWS = 128
GROUP_PIXELS = 2**28


class Gain:
    """A gain reference `(y, x)`, made ready once for many movies: pixels where it is 0 count as defects and have the mean gain."""

    def __init__(self, reference: Tensor):
        self.dead = torch.nonzero(reference.view(-1) == 0)[:, 0]
        self.mean = float(reference.mean())
        self.values = reference.masked_fill(reference == 0, self.mean)
        self._inverses: dict[int, Tensor] = {}

    def filled(self, defects: Tensor) -> Tensor:
        """The gain with its mean at defects, flat indices `(d,)`."""
        return self.values.view(-1).index_fill(0, defects, self.mean).view(self.values.shape)

    def of_bins(self, factor: int, defects: Tensor) -> Tensor:
        """Gain of squares of pixels, the harmonic mean of theirs; the mean gain at defects, flat indices `(d,)`."""
        if factor not in self._inverses:
            self._inverses[factor] = bin_images((1 / self.values)[None], factor)[0]
        inverse = self._inverses[factor].clone()
        width = self.values.shape[1]
        rows, columns = defects // width // factor, defects % width // factor
        inside = (rows < inverse.shape[0]) & (columns < inverse.shape[1])
        change = (1 / self.mean - 1 / self.values.view(-1)[defects]) / factor**2
        return inverse.index_put_((rows[inside], columns[inside]), change[inside], accumulate=True).reciprocal_()


@dataclass(frozen=True)
class Frames:
    """Counts `(y, x)` of each frame in the stored type, the gain, flat indices `(d,)` of defects, and those `(f, d)` of the pixels
    that take their place in each frame. The counts are taken over: defects are replaced in them."""

    counts: Sequence[Tensor]
    reference: Gain | None
    defects: Tensor
    substitutes: Tensor

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, number: int) -> Tensor:
        """Frame `(y, x)`, float32, gain applied and defects replaced."""
        return self.rows(self.counts_of(number), 0, self.shape[0])

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(y, x) in pixels; kept, since a frame of packed counts is unpacked to see it."""
        first = self.counts[0]
        return first.shape[0], first.shape[1]

    @cached_property
    def gain(self) -> Tensor | None:
        """Gain `(y, x)`, the mean one at defects."""
        return None if self.reference is None else self.reference.filled(self.defects)

    def counts_of(self, number: int) -> Tensor:
        """Counts `(y, x)` of a frame, defects replaced."""
        frame = self.counts[number]
        frame.view(-1)[self.defects] = frame.view(-1)[self.substitutes[number]]
        return frame

    def rows(self, counts: Tensor, start: int, count: int) -> Tensor:
        """Rows `(count, x)` of a frame's counts from the start, float32, gain applied; the frame repeats itself beyond its edges."""
        values = periodic_rows(counts, start, count).to(torch.float32)
        return values if self.gain is None else values.mul_(periodic_rows(self.gain, start, count))


def prepare_frames(counts: Sequence[Tensor], gain: Gain | None, generator: torch.Generator) -> Frames:
    """Frames with the defects found: where the gain is 0, and where the sum of all frames is hot or dead."""
    total = sum_counts(counts)
    if gain is not None:
        total.mul_(gain.values).view(-1)[gain.dead] = total.mean()
    bad = find_defects(total)
    if gain is not None:
        bad.view(-1)[gain.dead] = True
    places = places_of(bad)
    return Frames(counts, gain, places, choose_substitutes(bad, places, len(counts), generator))


def sum_counts(counts: Sequence[Tensor]) -> Tensor:
    """Sum `(y, x)` of frames, float32; some frames at a time, bytes in 16 bits, strip by strip of rows."""
    first = counts[0]
    total = torch.zeros(first.shape, dtype=torch.float32, device=first.device)
    for numbers in split_frames(len(counts), total.shape):
        group = [counts[number] for number in numbers]
        kind = torch.int16 if all(frame.dtype == torch.uint8 for frame in group) else torch.float32
        for start in range(0, len(total), STRIP_ROWS):
            strip = total[start : start + STRIP_ROWS]
            part = torch.zeros(strip.shape, dtype=kind, device=total.device)
            for frame in group:
                part += frame[start : start + STRIP_ROWS]
            strip += part
    return total


def split_frames(frames: int, shape: Sequence[int]) -> list[list[int]]:
    """Numbers of frames in groups that are held unpacked at one time: 4 to 24 of them, by their size."""
    size = max(4, min(24, GROUP_PIXELS // (shape[0] * shape[1])))
    return [list(range(start, min(start + size, frames))) for start in range(0, frames, size)]


class PackedCounts(Sequence[Tensor]):
    """Frames of bytes that take half the room: counts below 16 in half a byte each, the few others in a list. Frames come out unchanged."""

    def __init__(self) -> None:
        self._frames: list[tuple[Tensor, int, Tensor, Tensor] | Tensor] = []

    def append(self, frame: Tensor) -> None:
        """Add counts `(y, x)`: the first half of the rows goes into the lower halves of bytes; a frame of another type stays as it is."""
        if frame.dtype != torch.uint8:
            self._frames.append(frame)
            return
        half = (len(frame) + 1) // 2
        small = frame.clamp(max=15)
        packed = small[:half].clone()
        packed[: len(frame) - half] |= small[half:] << 4
        places = torch.nonzero(frame.reshape(-1) > 15)[:, 0]
        self._frames.append((packed, len(frame), places, frame.reshape(-1)[places]))

    def __len__(self) -> int:
        return len(self._frames)

    @overload
    def __getitem__(self, number: int) -> Tensor: ...

    @overload
    def __getitem__(self, number: slice) -> list[Tensor]: ...

    def __getitem__(self, number: int | slice) -> Tensor | list[Tensor]:
        """Counts `(y, x)` of one frame, or of several."""
        if isinstance(number, slice):
            return [self[index] for index in range(*number.indices(len(self)))]
        stored = self._frames[number]
        if isinstance(stored, Tensor):
            return stored
        packed, height, places, values = stored
        frame = torch.cat((packed & 15, packed[: height - len(packed)] >> 4))
        frame.view(-1)[places] = values
        return frame


def bin_to_resolution(frames: Frames, pixel_size: float, resolution: float) -> tuple[Tensor, float]:
    """(frames `(f, y, x)` of mean 0 in pixels of about half the resolution, that pixel's size), both in Å.

    Counts are binned as they are and the gain of each bin, the harmonic mean of its pixels', is applied
    to their sum: an even illumination comes out even, and no full frame of floats is made.
    """
    factor = max(1, min(round(resolution / (2 * pixel_size)), min(frames.shape) // 16))
    scale = torch.tensor(1 / factor**2) if frames.reference is None else frames.reference.of_bins(factor, frames.defects) / factor**2
    binned = torch.empty(len(frames), *(side // factor for side in frames.shape), device=frames.defects.device)
    for number, image in enumerate(binned):
        image.copy_(_bin_sums(frames.counts_of(number), factor)).mul_(scale)
        image -= image.mean()
    return binned, pixel_size * factor


def bin_images(images: Tensor, factor: int) -> Tensor:
    """Means `(n, y // factor, x // factor)` of squares of pixels of images `(n, y, x)`, float32; a remainder at the far edges is left out."""
    return torch.stack([_bin_sums(image, factor) for image in images]).to(torch.float32) / factor**2


def _bin_sums(image: Tensor, factor: int) -> Tensor:
    """Sums of squares of pixels of an image; those of bytes that stay below 256 are added as bytes, a pair at a time as one word."""
    height, width = (side // factor * factor for side in image.shape)
    image = image[:height, :width]
    small = image.dtype == torch.uint8 and int(image.max()) * factor**2 < 256
    if not image.is_floating_point() and not small:
        image = image.to(torch.int32)
    rows = image[::factor]
    for step in range(1, factor):
        rows = rows + image[step::factor]
    if small and factor % 2 == 0:
        pairs = rows.contiguous().view(torch.int16)
        rows, factor = (pairs & 255) + (pairs >> 8 & 255), factor // 2
    total = rows[:, ::factor]
    for step in range(1, factor):
        total = total + rows[:, step::factor]
    return total


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
