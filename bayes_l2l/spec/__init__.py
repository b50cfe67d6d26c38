"""What does a model file say? Priors, likelihoods and what every model has, read and checked by name.

`prior.py` has the schema of a prior, `likelihood.py` that of a likelihood, `model.py` what every model file says
(each structure adds its own keys), `reading.py` turns what pydantic finds into one sentence.
"""

import lazy_loader

# The names are in __init__.pyi, where type checkers look; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
