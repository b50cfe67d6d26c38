"""How are draws made, and are they good? NUTS, its diagnostics, and the file of a posterior.

`sampling.py` goes from a sweep to a posterior; `compiled.py` samples the modules of a model one after another, each
by `nuts.py`; `stages.py` tells how far they are; `diagnostics.py` judges the draws; `posterior_file.py` keeps them.
"""

import lazy_loader

# The names are in __init__.pyi, where type checkers look; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
