"""Devices: which of them a program may be told to run on, and what a session needs for that."""

from __future__ import annotations

from typing import Any, Optional

import tensorflow as tf

from pymc3_tf.exceptions import DeclarationError


def checked_device(device: Optional[str]) -> str:
    """Return a device in TensorFlow's own spelling; empty for None.

    Raises
    ------
    DeclarationError
        If there is no such device on this machine.
    """
    if device is None:
        return ""
    try:
        spec = tf.DeviceSpec.from_string(str(device))
    except ValueError:
        spec = tf.DeviceSpec()
    if spec.device_type is None or spec.job is not None:
        raise DeclarationError(f"device is {device!r}. Give one such as '/GPU:0' or '/CPU:0'.")
    spec = spec.replace(device_index=spec.device_index or 0)
    present = len(tf.config.list_physical_devices(spec.device_type))
    # There can be any number of logical processors, and of nothing else.
    if spec.device_type != "CPU" and spec.device_index >= present:
        raise DeclarationError(
            f"device is {device!r}, and TensorFlow sees {present or 'no'} {spec.device_type} here. "
            "Leave device out, or give '/CPU:0'."
        )
    return spec.to_string()


def require(device: str, config: Any) -> None:
    """Make sure that a session with a configuration has a device."""
    spec = tf.DeviceSpec.from_string(device)
    if spec.device_type == "CPU":
        config.device_count["CPU"] = spec.device_index + 1
    # Chains share a GPU: none may take all of its memory.
    config.gpu_options.allow_growth = True


def survives_fork(device: str) -> bool:
    """Whether a forked process can use a device."""
    return tf.DeviceSpec.from_string(device).device_type in (None, "CPU")
