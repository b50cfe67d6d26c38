"""How is a log density evaluated, fast? A PyMC model says what it is; this room says how it is run.

`lowering.py` turns the graph of a PyMC model into a tape of instructions (`tape.py`), `machine.py` runs any tape,
`store.py` keeps what was made, in the process and on disk. `laplace.py` finds the coordinates that a density is
sampled in (`whitening.py`); `_compat.py` tells PyMC 5 from 6.
"""

import lazy_loader

# The names are in __init__.pyi, where type checkers look; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
