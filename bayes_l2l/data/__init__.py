"""What was run? A table becomes a Sweep: validated runs, each with its losses.

`sweep.py` has the Sweep; `tables.py` reads files and frames, with `delimited.py` for separators and `numerals.py` for
numbers as people write them; `columns.py` says which column means what, and `preparation.py` does what a mapping asks
for beyond names; `recognition.py` and `proposal.py` propose a mapping; `validation.py` collects every fault with its
row and column; `assessment.py` says what is doubtful and `oddities.py` which losses are odd; `rates.py` has error
rates and accuracies; `sizes.py` says which sizes there can be and when runs are of one; `datasets.py` knows public
sweeps and `simulation.py` makes one with a known truth.
"""

import lazy_loader

# The names are in __init__.pyi, where type checkers look; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
