"""What the ranks of a job have each, and what is said of one that failed."""

import json
from pathlib import Path

import pytest
import torch

from firn.errors import InputError, MachineError
from firn.refine.ranks import ALONE, Ranks
from firn.runtime.ranks import RankError, _failure


class OneOf(Ranks):
    def __init__(self, rank: int, size: int):
        self.rank, self.size = rank, size


@pytest.mark.parametrize("size", [1, 2, 3, 16])
def test_every_particle_is_one_rank_s_and_each_rank_has_as_many_of_each_half_set(size):
    half = torch.tensor([1] * 21 + [2] * 20 + [1, 2] * 5)
    parts = [OneOf(rank, size).part(half) for rank in range(size)]
    assert torch.cat(parts).sort().values.tolist() == list(range(len(half)))
    for number in (1, 2):
        counts = [int((half[part] == number).sum()) for part in parts]
        assert max(counts) - min(counts) <= 1
        assert min(counts) > 0
    assert all(torch.equal(part, part.sort().values) for part in parts)


def test_who_is_alone_hears_itself_and_adds_nothing():
    total = torch.ones(3)
    ALONE.add_(total)
    assert total.tolist() == [1, 1, 1]
    assert ALONE.tell({"number": 4}) == {"number": 4}
    assert ALONE.part(torch.tensor([2, 1, 1])).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("fault", "code", "kind", "said"),
    [
        ({"kind": "InputError", "text": "a.mrcs: ends early"}, 1, InputError, r"^a\.mrcs: ends early$"),
        ({"kind": "MachineError", "text": "out of memory: much"}, 1, MachineError, "^out of memory: much$"),
        ({"kind": "", "text": "Traceback\nKeyError: 3"}, 1, RankError, "^rank 1 of 2 failed:\nTraceback\nKeyError: 3$"),
        (None, -9, MachineError, "^rank 1 of 2 was ended by signal 9, as when memory runs out"),
        (None, 3, MachineError, "^rank 1 of 2 ended with code 3"),
    ],
)
def test_the_sentence_of_a_rank_that_failed_is_the_job_s(tmp_path: Path, fault, code, kind, said):
    path = tmp_path / "fault_1.json"
    if fault is not None:
        path.write_text(json.dumps(fault))
    with pytest.raises(kind, match=said):
        raise _failure(path, "rank 1 of 2", code)
