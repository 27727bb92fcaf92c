from hypothesis import given
from hypothesis import strategies as st

from emocache.extract.batching import group_by_cost


@given(st.lists(st.floats(0, 100)), st.floats(0.1, 300), st.integers(1, 9))
def test_every_item_once_in_affordable_batches_of_similar_cost(costs: list[float], budget: float, most: int) -> None:
    batches = group_by_cost(costs, budget, most)
    assert sorted(item for batch in batches for item in batch) == list(range(len(costs)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(costs[item] for item in batch) <= budget
        assert len(batch) <= most
    flat = [costs[item] for batch in batches for item in batch]
    assert flat == sorted(flat, reverse=True)


@given(st.lists(st.floats(0, 100), min_size=2), st.floats(0.1, 300))
def test_no_batch_could_have_taken_the_next_item(costs: list[float], budget: float) -> None:
    batches = group_by_cost(costs, budget)
    for batch in batches[:-1]:
        assert len(batch) == 256 or (len(batch) + 1) * costs[batch[0]] > budget


def test_equal_costs_keep_their_order() -> None:
    assert group_by_cost([2.0] * 5, 4.0) == [[0, 1], [2, 3], [4]]
