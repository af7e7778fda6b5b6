"""Programs: frozen TensorFlow computations. It knows TensorFlow only."""
