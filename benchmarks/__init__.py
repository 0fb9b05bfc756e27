"""Is seqjax as fast as the libraries it competes with? One file per question, with its opponents."""

import os

# Several processes share a GPU, and this one may ask JAX for its devices before it starts others.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
