"""What will the next loss be? Forecasts, translations and compute-optimal sizes: pure functions of a posterior.

`forecasts.py` forecasts new sizes, `translations.py` one loss from another, `optimum.py` says how a budget is best
spent, `outliers.py` which runs lie off their law.
"""

import lazy_loader

# The names are in __init__.pyi, where type checkers look; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
