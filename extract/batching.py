"""Which clips go through the encoder together."""

from collections.abc import Sequence


def group_by_cost(costs: Sequence[float], budget: float, most: int = 256) -> list[list[int]]:
    """Cut items into batches of similar cost, the dearest batch first.

    Everything in a batch is padded to its dearest member, so a batch of n items costs n times that one. The dearest
    batch comes first, so that a lack of memory shows at once and not after an hour.

    Args:
        costs: what each item costs alone, such as seconds of audio.
        budget: what a batch may cost when padded. An item dearer than that is a batch of its own.
        most: the most items in a batch.

    Returns:
        Positions in `costs`, each once.

    >>> group_by_cost([1.0, 4.0, 3.9, 9.0, 1.1], budget=8.0)
    [[3], [1, 2], [4, 0]]
    """
    order = sorted(range(len(costs)), key=lambda item: -costs[item])
    batches: list[list[int]] = []
    for item in order:
        batch = batches[-1] if batches else []
        if batch and len(batch) < most and (len(batch) + 1) * costs[batch[0]] <= budget:
            batch.append(item)
        else:
            batches.append([item])
    return batches
