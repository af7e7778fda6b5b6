"""Import this first: it keeps the libraries' start-up notices out of the benchmark's output."""

import logging
import os

# TensorFlow's start-up lines, and Theano's remark that it found no BLAS.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)


def _is_worth_showing(record):
    # PyMC3 recommends its successor on import, and names its sampler in each of many pm.sample.
    message = record.getMessage()
    return record.levelno > logging.INFO and "very outdated" not in message


logging.getLogger("pymc3").addFilter(_is_worth_showing)
