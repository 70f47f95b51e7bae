"""The functions of the package from the shell: one file a subject, ``main`` joins them."""
