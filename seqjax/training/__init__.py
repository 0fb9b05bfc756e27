"""Training, from a config to trained parameters: optimiser, step, evaluation, checkpoints and the training loop."""
