"""What does the field fit today? The least Huber loss of one cell's law, and its refits to resampled runs.

`point_fit.py` fits one cell, `resampling.py` every cell of a table and resamples of its runs; `wild_runs.py` sets
aside what no law explains.
"""

import lazy_loader

# The names are in __init__.pyi, where type checkers look; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
