"""The second-generation base in stages: field, manifold and encoder, then a discriminator."""
