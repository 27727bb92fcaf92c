from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emocache.extract.pipeline.batching import Budget


@given(st.floats(0, 100), st.floats(0.1, 3000))
def test_a_batch_takes_what_is_affordable_and_no_item_less(dearest: float, cost: float) -> None:
    items = Budget(cost).items(dearest)
    assert items == 1 or items * dearest <= cost * (1 + 1e-9)
    assert items == 256 or (items + 1) * dearest > cost * (1 - 1e-9)


class Device:
    """Memory of 1000 bytes, of which the most that was taken since the last look is known."""

    def __init__(self) -> None:
        self.taken = 0

    def __call__(self) -> tuple[int, int]:
        taken, self.taken = self.taken, 0
        return taken, 1000

    def run(self, budget: Budget, cost: float, taken: int) -> None:
        with budget.spend(cost):
            self.taken = max(self.taken, taken)


@pytest.fixture
def device() -> Device:
    return Device()


def test_a_budget_follows_the_memory_that_batches_took(device: Device) -> None:
    budget = Budget(10.0, device)
    device.run(budget, 10.0, 100)  # 10 bytes for each unit of cost, 800 to be used
    assert budget.cost == 80.0
    device.run(budget, 40.0, 100)  # a cheap batch says nothing of dear ones
    assert budget.cost == 80.0
    device.run(budget, 40.0, 800)
    assert budget.cost == 40.0


def test_small_batches_say_nothing_of_large_ones(device: Device) -> None:
    """What any pass takes, however small, would be counted once for each unit of cost."""
    budget = Budget(100.0, device)
    device.run(budget, 1.0, 400)
    assert budget.cost == 100.0


def test_what_a_large_batch_takes_is_not_put_down_to_a_small_one_beside_it(device: Device) -> None:
    """The second batch is launched, and has taken its memory, before the first has come back."""
    budget = Budget(100.0, device)
    with budget.spend(100.0):
        with budget.spend(30.0):
            device.taken = 500
        assert budget.cost == 160.0
        device.taken = 500
    assert budget.cost == 160.0


def test_nothing_is_learnt_from_a_batch_that_broke_off(device: Device) -> None:
    budget = Budget(100.0, device)
    with suppress(RuntimeError), budget.spend(100.0):
        device.taken = 1000
        raise RuntimeError("CUDA out of memory")
    device.run(budget, 50.0, 100)
    assert budget.cost == 400.0


@given(st.floats(1, 100), st.lists(st.floats(0.1, 1000), min_size=1))
def test_what_did_not_fit_once_is_never_tried_again(first: float, misfits: list[float]) -> None:
    budget = Budget(first, lambda: (1, 1 << 40))
    for cost in misfits:
        budget.shrink(cost)
        with budget.spend(1.0):
            pass
        assert budget.cost <= cost / 2
    assert budget.cost <= min(misfits) / 2


def test_without_a_memory_to_go_by_nothing_grows() -> None:
    budget = Budget(60.0)
    with budget.spend(60.0):
        pass
    assert budget.cost == 60.0
