"""Activations in numpy, for equations that are written as loops."""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def silu(z):
    return z * sigmoid(z)


def softplus(z):
    return np.log1p(np.exp(z))
