"""Work ahead of and behind the device keeps order, errors and bounds."""

import threading
import time

import pytest

from firn.runtime.ahead import Behind, made_ahead


def test_items_come_in_order_each_with_what_was_made_of_it() -> None:
    assert [(item, made.result()) for item, made in made_ahead(range(5), lambda n: n * n)] == [(n, n * n) for n in range(5)]


def test_no_items_give_nothing() -> None:
    assert list(made_ahead([], lambda n: n)) == []


def test_the_next_item_is_being_made_while_the_present_one_is_used() -> None:
    second_started = threading.Event()

    def make(number: int) -> int:
        if number == 1:
            second_started.set()
        return number

    first = next(iter(made_ahead(range(3), make)))
    assert first[1].result() == 0
    assert second_started.wait(5)


def test_an_error_belongs_to_its_item_and_the_rest_goes_on() -> None:
    def make(number: int) -> int:
        if number == 1:
            raise ValueError("broken")
        return number

    seen = []
    for _, made in made_ahead(range(3), make):
        try:
            seen.append(made.result())
        except ValueError:
            seen.append(-1)
    assert seen == [0, -1, 2]


def test_what_is_done_behind_is_done_in_order_when_the_block_ends() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.005 * (3 - number % 3))
        done.append(number)

    with Behind(limit=2) as behind:
        for number in range(7):
            behind.do(work, number)
    assert done == list(range(7))


def test_an_error_behind_is_raised_and_not_lost() -> None:
    def fail() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), Behind() as behind:
        behind.do(fail)
