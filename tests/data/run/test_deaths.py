"""What is tried next of a block whose workers have died: all rows, once each, until those that end them are found."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo_ray.data.run.deaths import DEATHS_ALONE, DEATHS_TO_BLAME, LOADS, PARTS, Attempt, Deaths, tries

ROWS = 512


def rows_of(spans):
    return sorted(row for first, stop in spans for row in range(first, stop))


def answer(whole, poison, chance=()):
    """Play a block whose ``poison`` rows end each worker; those it is told to leave out, and how many have died.

    ``chance`` says after how many attempts a worker also dies without any fault of theirs.
    """
    died, attempts = [], 0
    while True:
        spans, blamed = tries(whole, died)
        assert rows_of(spans) == list(range(*whole))
        for span in spans:
            attempts += 1
            if any(span[0] <= row < span[1] for row in set(poison) - set(blamed)) or attempts in chance:
                died.append(span)
                break
        else:
            return blamed, died


@given(st.integers(1, ROWS), st.integers(0, 2000), st.data())
def test_those_that_end_workers_are_found_and_no_others(size, start, data):
    poison = data.draw(st.sets(st.integers(start, start + size - 1), max_size=4))
    blamed, died = answer((start, start + size), poison)
    assert blamed == sorted(poison)
    assert len(died) <= bool(poison) + (2 + DEATHS_ALONE) * len(poison)  # of each a half, a part, and it alone


@given(st.integers(1, ROWS), st.data(), st.sets(st.integers(1, 300), max_size=12))
def test_who_dies_by_chance_blames_no_image_but_one_that_was_alone_each_time(size, data, chance):
    poison = data.draw(st.sets(st.integers(0, size - 1), max_size=2))
    blamed, died = answer((0, size), poison, chance)
    assert set(poison) <= set(blamed)
    for row in blamed:
        assert Counter(died)[row, row + 1] >= DEATHS_ALONE
        assert sum(first <= row < stop for first, stop in died) >= DEATHS_TO_BLAME


@pytest.mark.parametrize(
    ("size", "num_deaths"), [(1, 3), (2, 3), (3, 4), (16, 4), (2 * PARTS, 4), (2 * PARTS + 2, 5), (ROWS, 5)]
)
def test_one_image_costs_few_workers(size, num_deaths):
    found = [answer((0, size), {row}) for row in (0, size // 2, size - 1)]
    assert [blamed for blamed, _ in found] == [[0], [size // 2], [size - 1]]
    assert max(len(died) for _, died in found) == num_deaths


def test_without_deaths_a_block_is_tried_whole():
    assert tries((0, 64), []) == ([(0, 64)], [])
    assert tries((0, 0), []) == ([(0, 0)], [])


def test_the_second_try_is_of_halves_and_can_be_asked_for():
    assert tries((0, 64), [(0, 64)]) == tries((0, 64), [], divide=True) == ([(0, 32), (32, 64)], [])


def test_what_died_last_is_tried_first():
    spans, _ = tries((0, 512), [(0, 512), (256, 512)])
    assert spans[0] == (256, 260)
    assert spans[-1] == (0, 256)


def attempt(span, process, act="answering", **more):
    settings = {"shard_id": "ab", "number": 1, "label": "a.tar", "first_row": 64}
    return Attempt(span=span, process=process, act=act, **settings | more)


def test_a_worker_that_comes_through_has_not_died():
    deaths = Deaths()
    for process in ("p", "q"):
        assert not deaths.begin(attempt((0, 64), process))
        assert not deaths.begin(attempt((0, 32), process))
        deaths.end(attempt((0, 64), process))
    assert deaths.died == {}
    assert deaths.take_events() == []


def test_reading_and_answering_a_block_are_apart():
    deaths = Deaths()
    deaths.begin(attempt((0, 0), "reader", "reading"))
    assert not deaths.begin(attempt((0, 64), "worker"))
    deaths.end(attempt((0, 0), "reader", "reading"))
    assert deaths.begin(attempt((0, 64), "next"))


def test_what_is_told_of_deaths():
    deaths = Deaths()
    spans = [(0, 64), (32, 64), (40, 41), (40, 41)]
    for number, span in enumerate(spans):
        deaths.begin(attempt((0, 64), f"p{number}"))
        deaths.begin(attempt(span, f"p{number}", image_id="a.tar#40" if span == (40, 41) else ""))
    assert deaths.begin(attempt((0, 64), "last"))
    assert deaths.died == {"ab-000001": spans}
    events = deaths.take_events()
    assert [event["text"] for event in events] == [
        "a worker died while answering images 65 to 128 of a.tar; trying them in smaller parts",
        "a worker died while answering images 97 to 128 of a.tar; trying them in smaller parts",
        "a worker died while answering image a.tar#40 alone; trying it once more",
        "a worker died while answering image a.tar#40 alone (2 times); leaving it out",
        "image a.tar#40 ends its worker: its row says kills_worker, all others are answered",
    ]
    assert [event["name"] for event in events] == ["worker_died"] * 4 + ["kills_worker"]
    assert deaths.take_events() == []


def test_reading_is_counted_by_itself_and_not_remembered():
    deaths = Deaths()
    for number in range(3):
        assert not deaths.begin(attempt((0, 0), f"p{number}", "reading"))
    told = deaths.told(attempt((0, 0), "p3", "reading"), stop=False)
    assert (told.num_read, told.died) == (2, ())
    assert deaths.take_events()[-1]["text"] == "a process died while reading a.tar from image 65 on (2 of 3 times)"


def test_a_worker_that_dies_of_loading_again_and_again():
    deaths = Deaths()
    assert [deaths.begin_loading("a", f"p{number}") for number in range(LOADS + 1)] == list(range(LOADS + 1))
    assert deaths.begin_loading("b", "p") == 0  # loads beside it
    deaths.end_loading("a")
    assert deaths.begin_loading("a", "q") == 0  # died later, of something else
    assert deaths.take_events()[0]["text"] == "a worker died while loading the model (1 of 3 times)"
