"""How does a spec become a PyMC model, and what do its draws mean? One file for each kind of model.

`protocol.py` says what a structure must answer; `separate.py`, `joint.py`, `pairwise.py` and `error_rate.py` are the
values of a model file's key `structure`. `laws.py` is what structures of laws share, with `arrays.py` (runs as
arrays), `run_likelihood.py` and `size_effect.py` (runs about a law, and what those of one size share) and
`parameters.py` (a prior as random variables, sampled in `coordinates.py`); `error_arrays.py` has error rates as
arrays. `models.py` reads a model by name.
"""

import lazy_loader

# The names are in __init__.pyi, where type checkers look; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
