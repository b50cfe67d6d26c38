"""What does a fit say, for those who must decide with it? One HTML file.

`sections.py` says it, `views.py` has its pictures in words, `page.py` makes the page, by `templates/`.
"""

import lazy_loader

# The names are in __init__.pyi, where type checkers look; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
