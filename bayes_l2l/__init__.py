"""Bayesian scaling laws and loss-to-loss prediction: runs in, forecasts with honest intervals out."""

import lazy_loader

__version__ = "0.1.0"

# The names are in __init__.pyi, where type checkers look; each is imported when it is first used, so that
# `import bayes_l2l` costs next to nothing.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
