"""What is trained: batch, rank (and width), and how a worker is asked for it."""

NOTEBOOK = (10, 1)
BATCHES, RANKS = (1, 64, 256), (1, 8, 64)
GRID = [(batch, rank) for batch in BATCHES for rank in RANKS]
SCOUTED_RANK = 8  # finds the best setting of a batch, for all ranks


def request(*shape):
    return " ".join(["train", *map(str, shape)])


STEP = request(*NOTEBOOK)
