"""From a config to trained parameters: optimiser, step, evaluation, checkpoints, and the loop around them."""
