"""What can be asked in a terminal? The command `bayes-l2l`.

`app` puts it together, `commands/` has a file for each family of commands, `options` what they are told and `output`
what they answer; `terminal`, `words` and `stages` make tables, notes and progress for the eye.
"""

from __future__ import annotations

from bayes_l2l.cli.app import main

__all__ = ["main"]
