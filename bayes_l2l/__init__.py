"""Bayesian scaling laws and loss-to-loss prediction."""
