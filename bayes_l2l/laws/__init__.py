"""Which closed forms relate sizes and losses? Laws, relations and error curves, with no data and no sampler.

`scaling.py` has the law L(N, D), its optimum and its translation; `family.py` the members that fix some of its
exponents; `shifted_power.py` the relation between two losses; `error_curves.py` error as a function of loss;
`residuals.py` what runs scatter; `surface.py` a smooth surface without a law. A subclass of `LawForm`, `ErrorCurve`
or `Residuals` is a new one.
"""

import lazy_loader

# The names are in __init__.pyi, where type checkers look; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
