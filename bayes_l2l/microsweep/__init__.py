"""How do losses fall on one's own corpora? A sweep measured with transformers small enough for a laptop.

A run trains a decoder-only transformer on windows of a corpus, each read once, and evaluates it, at its end, on what
is held out of every corpus. Budgets of FLOPs, and sizes within a budget, make the grid of isoFLOP curves.

`corpora.py` reads and splits, `runs.py` lays out the grid, `transformer.py` is the model, `training.py` trains one
run, `measurement.py` makes the table. Only the command `sweep` imports this room, and it alone needs PyTorch.
"""

import lazy_loader

# The names are in __init__.pyi, where type checkers look; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
