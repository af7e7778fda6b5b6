"""NUTS for one log density in TensorFlow, as one program that XLA compiles."""
