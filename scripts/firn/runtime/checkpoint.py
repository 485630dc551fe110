"""What a long job knows so far, kept beside its results, so that a killed job goes on where it was.

A state belongs to one version of settings, seed and inputs; any other finds nothing. It lies in a folder that no run wipes and that
goes when the job has succeeded. Files hold tensors, numbers, text, lists and dictionaries only, and are read as such.
"""

import hashlib
import json
import logging
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch

State = dict[str, Any]


class Checkpoint:
    """The newest state of one job, in `folder`; `identity` is all that decides the job's numbers (JSON values)."""

    def __init__(self, folder: Path, identity: Any):
        key = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=12).hexdigest()
        self._folder, self._key, self._path = folder, key, folder / f"{key}.pt"

    def save(self, state: State) -> None:
        """Replace the state as a whole: write beside, fsync, rename."""
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(f".{os.getpid()}.tmp")
        with partial.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, self._path)

    def workplace(self) -> Path:
        """A folder, made when missing, for the files of another program that goes on by itself from what it has written."""
        place = self._folder / self._key
        place.mkdir(parents=True, exist_ok=True)
        return place

    def load(self) -> State | None:
        """The state of a run of the same job that was cut short, its tensors on the CPU; None when there is none that can be read."""
        if not self._path.exists():
            return None
        try:
            state: State = torch.load(self._path, map_location="cpu", weights_only=True)
        except (RuntimeError, ValueError, EOFError, LookupError, pickle.UnpicklingError) as error:
            logging.getLogger("firn").warning(f"{self._path}: is damaged or no state, so the job begins anew ({type(error).__name__})")
            return None
        return state

    def clear(self) -> None:
        """Forget all states."""
        shutil.rmtree(self._folder, ignore_errors=True)
