"""How often were forecasts right? Scores, backtests on runs that exist, and the baseline that models must beat.

`backtest` fits the smaller runs of a sweep and forecasts its larger ones, split by split: `splits.py` says which runs
are fitted, `jobs.py` makes one split and keeps its result, `workers.py` makes many at a time, `backtests.py` sets
forecasts beside what happened. `scores.py` has the proper scores, `baseline.py` the point fit with its bootstrap.
"""

import lazy_loader

# The names are in __init__.pyi, where type checkers look; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
