"""How fast an epoch goes, by a clock that the test turns."""

import pytest
import torch

from aneurysm.training import data


@pytest.fixture
def clock(monkeypatch):
    """Seconds, and a list to add to them."""
    now = [0.0]
    monkeypatch.setattr(data.time, "perf_counter", lambda: sum(now))
    return now


def test_the_share_that_is_waited_is_the_time_until_items_come(clock):
    def items():
        for number in range(3):
            clock.append(2.0)  # until it comes
            yield number
        clock.append(1.0)  # until it is known that there are no more

    measured = data.Throughput(torch.device("cpu"))
    for _ in measured.waiting(items()):
        clock.append(1.0)  # work
    assert measured.row(n_samples=40) == {"samples_per_s": 4.0, "wait_share": 0.7}


def test_items_come_in_their_order_and_errors_pass(clock):
    def items():
        yield "a"
        yield "b"
        raise OSError("the disk")

    came = []
    with pytest.raises(OSError, match="the disk"):
        for item in data.Throughput(torch.device("cpu")).waiting(items()):
            came.append(item)
    assert came == ["a", "b"]
