"""Results held against each other: standings, all pairs, and the differences of two."""
