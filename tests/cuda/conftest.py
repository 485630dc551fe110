"""Every test here runs on a GPU, where there is one, and on a device that only pretends to be one, everywhere."""

from collections.abc import Iterator

import pytest
import torch

from firn.refine import expectation
from firn.runtime import memory_room
from half_scores import by_definition
from pretended_device import KIND, pretended_device


@pytest.fixture(params=["cuda", KIND])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A device to compare the CPU with."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device is here")
        with torch.inference_mode():
            yield torch.device("cuda", 0)
        return
    monkeypatch.setattr(expectation, "marginals_are_fast", lambda device: device.type == KIND)
    monkeypatch.setattr(expectation, "fast_marginals", by_definition)
    monkeypatch.setattr(memory_room, "device_room", lambda device: memory_room.Room(64e9, 64e9, str(device)))
    with torch.inference_mode(), pretended_device() as pretended:
        yield pretended
