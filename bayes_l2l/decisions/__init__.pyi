from .choices import Choice as Choice
from .choices import choose as choose
from .plans import Plan as Plan
from .plans import plan as plan
