"""Keras on JAX: what it computes with is read from the environment when it is first imported."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import keras  # pyright: ignore[reportMissingImports]

__all__ = ["keras"]
