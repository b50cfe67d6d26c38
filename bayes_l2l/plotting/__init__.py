"""What does it look like? Pictures of fits, forecasts, relations, decisions and scores.

`laws.py` draws losses and laws, `relations.py` one loss against another, `over_training.py` lines of equal tokens per
parameter and error rates, `optimum.py` compute-optimal sizes, `decisions.py` choices and plans, `calibration.py`
backtests, `sampler.py` chains; `gallery.py` is `fit.plot`, `style.py` what all are made of.
"""

import lazy_loader

# The names are in __init__.pyi, where type checkers look; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
