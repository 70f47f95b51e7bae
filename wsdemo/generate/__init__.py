"""Generating weights: tokens, Gaussian prior, denoisers, sampler."""
