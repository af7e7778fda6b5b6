"""What stands in a PyMC3 model, and what follows it: densities, predictions, InferenceData."""
