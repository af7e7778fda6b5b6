"""From what users have to a program, with all checks that can be made up front: TensorFlow only."""
