"""When rounds of a stream are due, from the rounds that were made and the particles that came."""

import itertools
from typing import Any

import pytest

from firn.live.control import Streams
from firn.live.rounds import Rounds
from firn.live.streams import Due, due_rounds, group_order

STREAM: dict[str, Any] = {
    "sources": {"movies": "stack"},
    "jobs": {
        "classify": {"name": "class2d", "settings": {"classes": 10, "batch_per_class": 100}, "groups": {}, "given": {}},
        "select": {"name": "keep", "settings": {}, "groups": {}, "given": {}},
        "initial": {"name": "start", "settings": {"symmetry": "D2"}, "groups": {}, "given": {}},
        "refine": {"name": "map", "settings": {"initial_lowpass": 30.0, "max_resolution": None}, "groups": {}, "given": {}},
    },
}  # fmt: skip


class Story:
    """Rounds that end as they are told, so that the next ones come due."""

    def __init__(self, stream: dict[str, Any] = STREAM, **control: Any) -> None:
        self.stream, self.control, self.rounds, self.last = stream, Streams(**control), Rounds(), False
        self.limits: dict[str, Any] = {}
        self.picks = 0

    def due(self, usable: int) -> list[Due]:
        return due_rounds(self.stream, self.rounds, usable, self.limits, self.control, self.last, self.picks)

    def plan(self, usable: int) -> list[str]:
        """Plan what is due; the roles."""
        found = self.due(usable)
        for due in found:
            entries = self.rounds.setdefault(self.stream["jobs"][due.role]["name"], [])
            entries.append(
                {
                    "number": len(entries) + 1, "role": due.role, "particles": due.particles, "made": due.made, "limits": self.limits, "state": "open",
                    "try": 1, "sentence": "", "inputs": due.inputs, "picks": self.picks,
                }
            )  # fmt: skip
        return [due.role for due in found]

    def end(self, role: str, state: str = "done", **told: Any) -> None:
        self.rounds[self.stream["jobs"][role]["name"]][-1] |= {"state": state, "resolution": 9.0, "kept": None} | told

    def run(self, usable: int, kept: float = 0.8, resolution: float = 9.0) -> list[str]:
        """Plan and end rounds until none is due; the roles in order."""
        roles: list[str] = []
        while found := self.plan(usable):
            for role in found:
                self.end(role, kept=int(kept * self.rounds["class2d"][-1]["particles"]), resolution=resolution)
            roles += found
        return roles

    def particles(self, job: str) -> list[int]:
        return [entry["particles"] for entry in self.rounds[job]]


def test_the_first_2d_round_waits_for_twenty_particles_per_class() -> None:
    story = Story()
    assert story.plan(199) == []
    assert story.plan(200) == ["classify"]
    assert story.plan(400) == []


def test_2d_rounds_double_then_come_every_two_batches_per_class_then_every_tenth() -> None:
    story = Story()
    for usable in range(0, 100_000, 50):
        story.run(usable)
    counts = story.particles("class2d")
    assert counts[:6] == [200, 400, 800, 1600, 3200, 5200]
    steps = [after / before for before, after in itertools.pairwise(counts)]
    assert 1.1 <= min(steps) < 1.11
    assert all(after - before >= 2000 for before, after in itertools.pairwise(counts[4:]))


def test_every_round_goes_on_from_the_one_before() -> None:
    story = Story()
    story.run(500)
    story.run(1000)
    assert "templates" not in story.rounds["class2d"][0]["inputs"]
    assert story.rounds["class2d"][1]["inputs"]["templates"] == ["results/class2d/rounds/0001"]
    assert story.rounds["map"][0]["inputs"]["volume"] == ["results/start/rounds/0001"]
    assert story.rounds["map"][1]["inputs"] == {"particles": ["results/keep/rounds/0002"], "volume": ["results/map/rounds/0001"]}


def test_classes_are_selected_then_a_first_map_made_then_refined() -> None:
    assert Story().run(500) == ["classify", "select", "initial", "refine"]


def test_the_first_map_waits_for_enough_asymmetric_units() -> None:
    story = Story()
    assert story.run(250) == ["classify", "select"]
    assert story.run(500) == ["classify", "select", "initial", "refine"]
    assert Story(first_3d=60).run(250) == ["classify", "select", "initial", "refine"]


def test_a_map_is_refined_again_only_when_the_selection_grew_by_a_fifth() -> None:
    story = Story(every_2d=50)
    story.run(500)
    story.run(560)
    assert story.particles("map") == [400]
    story.run(610)
    assert story.particles("map") == [400, 488]


def test_at_the_end_all_particles_come_into_a_last_round_of_everything() -> None:
    story = Story()
    story.run(500)
    story.last = True
    assert story.run(510) == ["classify", "select", "refine"]
    assert story.run(510) == []


def test_a_small_session_gets_its_classes_and_map_at_the_end() -> None:
    story = Story()
    assert story.run(90) == []
    story.last = True
    assert story.run(90) == ["classify", "select", "initial", "refine"]


def test_too_few_particles_for_anything_make_nothing() -> None:
    story = Story()
    story.last = True
    assert story.run(10) == []


def test_at_the_end_the_map_waits_for_the_last_selection() -> None:
    story = Story()
    story.run(500)
    story.plan(1000)
    story.last = True
    assert story.plan(1000) == []
    story.end("classify")
    assert story.plan(1000) == ["select"]
    assert story.plan(1000) == []
    story.end("select", kept=420)
    assert story.plan(1000) == ["refine"]


def test_thresholds_that_change_count_in_the_next_round_and_at_the_end() -> None:
    story = Story()
    story.run(500)
    story.limits = {"thresholds": {"defocus": {"max": 2e4}}}
    assert story.run(490) == []
    story.last = True
    assert story.run(500)[0] == "classify"


def test_particles_that_go_count_as_those_that_come() -> None:
    story = Story(every_2d=100)
    story.run(500)
    assert story.run(390)[0] == "classify"


@pytest.mark.parametrize("state", ["failed", "refused"])
def test_a_2d_round_that_came_to_nothing_is_followed_by_one_as_more_particles_come(state: str) -> None:
    story = Story()
    story.run(300)
    assert story.plan(600) == ["classify"]
    story.end("classify", state)
    assert story.plan(700) == []
    assert story.plan(1200) == ["classify"]
    assert story.rounds["class2d"][-1]["inputs"]["templates"] == ["results/class2d/rounds/0001"]


def test_a_selection_of_nothing_leaves_the_map_as_it_is() -> None:
    story = Story()
    story.run(500)
    story.plan(1000)
    story.end("classify")
    assert story.plan(1000) == ["select"]
    story.end("select", "refused")
    assert story.plan(1000) == []
    story.last = True
    assert story.plan(1000) == []


def test_a_first_map_that_came_to_nothing_is_made_again_as_particles_double() -> None:
    story = Story(every_2d=50)
    story.plan(500)
    story.end("classify")
    story.plan(500)
    story.end("select", kept=400)
    assert story.plan(500) == ["initial"]
    story.end("initial", "failed")
    assert story.run(600) == ["classify", "select"]
    assert story.run(1100) == ["classify", "select", "initial", "refine"]


def test_a_map_that_learns_nothing_gets_a_new_start() -> None:
    story = Story()
    story.run(500, resolution=28.0)
    story.run(1100)
    assert len(story.rounds["start"]) == 2
    assert story.rounds["map"][-1]["made"]["initial"] == 2
    assert story.rounds["map"][-1]["inputs"]["volume"] == ["results/start/rounds/0002"]


def test_particles_picked_again_go_on_from_classes_and_first_map_but_never_from_half_maps() -> None:
    story = Story()
    story.run(2000)
    story.run(4000)
    story.picks = 1
    assert story.due(0) == []
    (classify,) = story.due(300)
    assert classify.inputs == {"particles": ["sources"], "templates": ["results/class2d/rounds/0002"]}
    assert story.run(3000) == ["classify", "select", "refine"]
    again = story.rounds["map"][-1]
    assert again["inputs"] == {"particles": ["results/keep/rounds/0003"], "volume": ["results/start/rounds/0001"]}
    assert story.run(6000) == ["classify", "select", "refine"]
    assert story.rounds["map"][-1]["inputs"]["volume"] == [f"results/map/rounds/{len(story.rounds['map']) - 1:04d}"]


def test_a_map_is_refined_round_after_round() -> None:
    story = Story()
    for usable in (2000, 4000, 8000, 11000, 14000):
        story.run(usable)
    volumes = [entry["inputs"]["volume"] for entry in story.rounds["map"]]
    assert volumes == [["results/start/rounds/0001"], *([f"results/map/rounds/{number:04d}"] for number in range(1, len(volumes)))]
    assert len(volumes) >= 4


def test_a_given_map_needs_no_first_one() -> None:
    jobs = {role: job for role, job in STREAM["jobs"].items() if role != "initial"}
    jobs["refine"] = jobs["refine"] | {"given": {"volume": ["results/reference"]}}
    story = Story(STREAM | {"jobs": jobs})
    assert story.run(500) == ["classify", "select", "refine"]
    assert story.rounds["map"][0]["inputs"]["volume"] == ["results/reference"]


def test_without_classification_particles_come_from_the_batches() -> None:
    jobs = {role: STREAM["jobs"][role] for role in ("initial", "refine")}
    story = Story(STREAM | {"jobs": jobs})
    assert story.plan(400) == ["initial"]
    assert story.rounds["start"][0]["inputs"] == {"particles": ["sources"]}
    story.end("initial")
    assert story.plan(400) == ["refine"]
    assert story.rounds["map"][0]["inputs"]["particles"] == ["sources"]


@pytest.mark.parametrize(("group", "order"), [("C1", 1), ("c7", 7), ("D2", 4), ("T", 12), ("O", 24), ("I1", 60), ("nonsense", 1)])
def test_order_of_point_groups(group: str, order: int) -> None:
    assert group_order(group) == order


@pytest.mark.parametrize("role", ["classify", "select", "initial", "refine"])
def test_a_round_that_failed_is_made_once_more_at_the_end(role: str) -> None:
    story = Story()
    others = ["classify", "select", "initial", "refine"]
    for planned in others[: others.index(role)]:
        assert story.plan(1000) == [planned]
        story.end(planned, kept=900)
    assert story.plan(1000) == [role]
    story.end(role, state="failed")
    assert role not in story.plan(1000)
    story.last = True
    assert story.plan(1000) == [role]
    story.end(role, state="failed")
    assert role not in story.plan(1000)
