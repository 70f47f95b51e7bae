"""Generating weights: tokens, Gaussian prior, diffusion transformer, sampler."""
