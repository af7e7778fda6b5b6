"""Checks that TensorFlow's gradient of a program exists, and is right."""
