"""Whether the kernels of NVIDIA's cuDNN can run here."""

import jax


def hindrance(least: str = "0.0") -> str | None:
    """The reason why the default device cannot run a kernel that needs compute capability `least`; None if it can.

    The name of the platform does not tell, because JAX calls AMD's GPUs "gpu", too. There, JAX has no such attention,
    and its LSTM takes the gates in another order.
    """
    device = jax.devices()[0]
    if "cuda" not in device.client.platform_version:
        return f"it needs an NVIDIA GPU, this is {device.device_kind}"
    number = lambda capability: tuple(map(int, capability.split(".")))
    if number(device.compute_capability) < number(least):
        return f"it needs compute capability {least}, {device.device_kind} has {device.compute_capability}"
    return None
