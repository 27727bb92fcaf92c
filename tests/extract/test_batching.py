from hypothesis import given
from hypothesis import strategies as st

from emocache.extract.batching import Budget, group_by_cost


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


def test_a_budget_follows_the_memory_that_batches_took() -> None:
    taken = iter([100, 50, 100])
    budget = Budget(10.0, lambda: (next(taken), 1000))
    budget.learn(10.0)  # 10 bytes for each unit of cost, 800 to be used
    assert budget.cost == 80.0
    budget.learn(20.0)  # a cheap batch says nothing of dear ones
    assert budget.cost == 80.0
    budget.learn(1.0)
    assert budget.cost == 8.0


@given(st.floats(1, 100), st.lists(st.floats(0.1, 1000), min_size=1))
def test_what_did_not_fit_once_is_never_tried_again(first: float, misfits: list[float]) -> None:
    budget = Budget(first, lambda: (1, 1 << 40))
    for cost in misfits:
        budget.shrink(cost)
        budget.learn(1.0)
        assert budget.cost <= cost / 2
    assert budget.cost <= min(misfits) / 2


def test_without_a_memory_to_go_by_nothing_grows() -> None:
    budget = Budget(60.0)
    budget.learn(60.0)
    assert budget.cost == 60.0
