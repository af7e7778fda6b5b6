"""Whether TensorFlow's gradient of a program is there, and right."""
