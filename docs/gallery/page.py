"""What the pages of the gallery share: the look of pictures, thumbnails, and the run time.

Import it first: it quiets the start-up messages of the libraries.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up lines

import io
import logging
import time
import warnings
from pathlib import Path

# Theano's advice on BLAS, PyMC3's lines about progress, and xarray's advice to ArviZ.
logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)
logging.getLogger("pymc3").addFilter(
    lambda record: record.levelno >= logging.WARNING and "outdated" not in record.getMessage()
)
warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", category=DeprecationWarning)

warnings.filterwarnings("ignore", "Estimated shape parameter")  # az.compare has a column for it

import matplotlib.pyplot as plt
import tensorflow as tf
from PIL import Image

tf.get_logger().setLevel("ERROR")  # where a SavedModel was written, what TFP should not call

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
THUMBNAILS = HERE / "thumbnails"
INK, BLUE, ORANGE, GREEN, GREY = "#22313f", "#27548a", "#e2711d", "#3a7d44", "#9aa5ae"

plt.rcParams.update(
    {
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, "#8e6c8a"]),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.use": True,
        "figure.dpi": 80,
        "figure.facecolor": "white",
        "font.size": 11,
        "legend.frameon": False,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
)

_start = time.perf_counter(), time.process_time()


def _start_xla():
    """Let XLA say its first lines, which no setting silences, where nobody sees them."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        tf.function(lambda x: x + 1.0, jit_compile=True)(tf.constant(1.0))
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


_start_xla()


def thumbnail(figure, name, width=320, height=200):
    """Save a small picture for the index, unless it is there: delete it to have a new one."""
    path = THUMBNAILS / f"{name}.png"
    if path.exists():
        return
    file = io.BytesIO()
    figure.savefig(file, dpi=120, facecolor="white")
    picture = Image.open(file).convert("RGB")
    picture.thumbnail((width, height), Image.LANCZOS)
    canvas = Image.new("RGB", (width, height), "white")
    canvas.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    canvas.quantize(64).save(path, optimize=True)


def run_time():
    """Print how long the page has run, since it imported this module."""
    seconds, busy = time.perf_counter() - _start[0], time.process_time() - _start[1]
    print(f"This page ran in {seconds:.0f} seconds, with {busy:.0f} seconds of processor time.")
