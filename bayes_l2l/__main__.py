"""`python -m bayes_l2l` is the command `bayes-l2l`."""

from __future__ import annotations

import sys

from bayes_l2l.cli import main

sys.exit(main())
