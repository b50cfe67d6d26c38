"""How good is the package? Commands that measure it, each longer than a test; what they found is in `results/`.

They run from a checkout: ``python benchmarks/NAME.py --help``. `models/` has model files that are here for comparison
only, `regressions.py` the point fits of loss-to-loss relations that the paper itself makes.
"""
