"""What was drawn? A posterior as plain data, with what was believed and what was seen.

`posterior.py` has the Posterior, `settings.py` how it was drawn, `draws.py` the ways to take draws out of it.
"""

import lazy_loader

# The names are in __init__.pyi, where type checkers look; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
