"""What should be done next? Training sets compared, and the next runs ranked by what they would tell.

`choices.py` compares training sets draw by draw, `plans.py` ranks the next runs.
"""

import lazy_loader

# The names are in __init__.pyi, where type checkers look; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
