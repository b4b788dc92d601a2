"""The shapes that are trained (batch, rank and maybe width), and a worker's requests for them."""

NOTEBOOK = (10, 1)
BATCHES, RANKS = (1, 64, 256), (1, 8, 64)
GRID = [(batch, rank) for batch in BATCHES for rank in RANKS]
SCOUTED_RANK = 8  # a batch's best setting is found with this rank, for all ranks


def request(*shape):
    return " ".join(["train", *map(str, shape)])


STEP = request(*NOTEBOOK)
