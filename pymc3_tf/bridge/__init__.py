"""The op in Theano's graph that computes a program."""
