"""Runs programs in this process: sessions, forks, devices. It knows TensorFlow only."""
