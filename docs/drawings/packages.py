"""Draws the pictures of "How it works": the packages in their layers, and the way of the data.

    python docs/drawings/packages.py

writes ``docs/images/packages.svg`` and ``docs/images/data.svg``. The colours read on white and on
black: text stands on a box, or in a grey between the two.
"""

from html import escape
from pathlib import Path

IMAGES = Path(__file__).resolve().parent.parent / "images"

# Which of the three libraries a package imports decides its colour.
COLOURS = {
    "TensorFlow only": "#1f6f8b",
    "Theano too": "#7a5195",
    "Theano and PyMC3 too": "#b0413e",
    "none of these": "#5b6470",
}
TENSORFLOW, THEANO, PYMC3, NEITHER = COLOURS
GREY = "#76808c"
PAPER = "#e9edf1"
INK = "#26323d"

# From the top layer down; a package imports itself and what is below it.
LAYERS = [
    {"patches": ("repairs in Theano, PyMC3 and ArviZ", PYMC3)},
    {"checking": ("check, verify_grad and profile", PYMC3)},
    {
        "sampling": ("pymc3_tf.sample: starts, chains, results", PYMC3),
        "citations": ("what to cite for a model", PYMC3),
    },
    {
        "model": ("TFDensity, predictions, InferenceData", PYMC3),
        "linker": ("Theano graph to TensorFlow function", PYMC3),
    },
    {"bridge": ("TensorFlowOp: a program as an op of Theano", THEANO)},
    {"capture": ("checks what users have, and freezes it into a program", TENSORFLOW)},
    {"gradients": ("whether a gradient exists, and is right", TENSORFLOW)},
    {
        "runtime": ("sessions, devices, forks", TENSORFLOW),
        "nuts": ("the No-U-Turn sampler under XLA", TENSORFLOW),
    },
    {"host": ("C++ that compiled programs call", TENSORFLOW)},
    {
        "programs": ("frozen TensorFlow computations", TENSORFLOW),
        "advice": ("what to write instead, for errors", TENSORFLOW),
    },
    {
        "exceptions": ("the errors that users see", NEITHER),
        "private_tensorflow": ("all use of TensorFlow's private functions", TENSORFLOW),
    },
]


class Drawing:
    """An SVG, as lines of text."""

    def __init__(self, width, height, title):
        self.head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" '
            'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">'
        )
        self.lines = [
            f"<title>{escape(title)}</title>",
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            'markerHeight="7" orient="auto-start-reverse">'
            f'<path d="M0 0 10 5 0 10z" fill="{GREY}"/></marker></defs>',
        ]

    def text(self, x, y, text, size=13, fill=GREY, weight="normal", anchor="middle"):
        """Write one line, centred unless told otherwise."""
        self.lines.append(
            f'<text x="{x}" y="{y}" font-size="{size}" fill="{fill}" font-weight="{weight}" '
            f'text-anchor="{anchor}">{escape(text)}</text>'
        )

    def box(self, x, y, width, height, title, lines=(), fill=PAPER):
        """Draw a box with a title, and lines below it."""
        ink = INK if fill == PAPER else "#ffffff"
        self.lines.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}"/>'
        )
        first = y + height / 2 + 5 - 9 * len(lines)
        self.text(x + width / 2, first, title, 15, ink, "bold")
        for i, line in enumerate(lines):
            self.text(x + width / 2, first + 18 * (i + 1), line, 12.5, ink)

    def arrow(self, *points):
        """Draw a line through points, with a head at the last one."""
        path = " ".join(f"{x},{y}" for x, y in points)
        self.lines.append(
            f'<polyline points="{path}" fill="none" stroke="{GREY}" stroke-width="1.8" '
            'marker-end="url(#head)"/>'
        )

    def __str__(self):
        return "\n".join([self.head, *self.lines, "</svg>", ""])


def packages():
    """Draw the layers."""
    width, height, gap = 760, 52, 8
    drawing = Drawing(width, 60 + len(LAYERS) * (height + gap), "The packages of pymc3_tf")
    drawing.text(
        0,
        16,
        "A package imports only what is below it. Its colour: the libraries it imports.",
        anchor="start",
    )
    x = 0
    for world, colour in COLOURS.items():
        drawing.lines.append(
            f'<rect x="{x}" y="29" width="12" height="12" rx="2" fill="{colour}"/>'
        )
        drawing.text(x + 18, 40, world, 12.5, anchor="start")
        x += 48 + 7 * len(world)
    for i, layer in enumerate(LAYERS):
        each = (width - gap * (len(layer) - 1)) / len(layer)
        for k, (name, (text, world)) in enumerate(layer.items()):
            top = 56 + i * (height + gap)
            drawing.box(k * (each + gap), top, each, height, name, [text], COLOURS[world])
    return str(drawing)


def data():
    """Draw the way from a density and a model to draws."""
    drawing = Drawing(760, 640, "The way of the data through the packages")
    tensorflow, theano, pymc3 = (COLOURS[world] for world in (TENSORFLOW, THEANO, PYMC3))
    left, right, width = 20, 420, 320
    middle, other = left + width / 2, right + width / 2

    drawing.box(
        left, 0, width, 58, "your density", ["graph, function, Keras, TFP; data in feed_dict"]
    )
    drawing.box(right, 0, width, 58, "your PyMC3 model", ["priors, and data in pm.Data"])
    drawing.arrow((middle, 58), (middle, 92))
    drawing.box(
        left,
        94,
        width,
        76,
        "capture",
        ["checks and freezes it; gradients checks its", "gradient, advice words the errors"],
        tensorflow,
    )
    drawing.arrow((middle, 170), (middle, 204))
    drawing.box(
        left,
        206,
        width,
        76,
        "programs",
        ["a frozen graph with its gradient,", "and the arrays that were fed"],
        tensorflow,
    )
    drawing.arrow((left + width, 244), (right - 2, 244))
    drawing.text((left + width + right) / 2, 236, "in an op")
    drawing.box(
        right,
        206,
        width,
        76,
        "bridge",
        ["TensorFlowOp: the program as a part", "of the model's Theano graph"],
        theano,
    )
    drawing.arrow((other, 58), (other, 92))
    drawing.box(
        right,
        94,
        width,
        76,
        "model",
        ["TFDensity: names, shapes, transforms,", "observed data"],
        pymc3,
    )
    drawing.arrow((other, 170), (other, 204))

    drawing.arrow((other - 90, 282), (other - 90, 300), (middle, 300), (middle, 346))
    drawing.text(middle + 10, 330, "pm.sample", anchor="start", weight="bold")
    drawing.box(
        left,
        348,
        width,
        76,
        "runtime",
        ["Theano calls the op; the op calls TensorFlow,", "once for a value and its gradient"],
        tensorflow,
    )
    drawing.arrow((other, 282), (other, 346))
    drawing.text(other + 10, 330, "pymc3_tf.sample", anchor="start", weight="bold")
    drawing.box(
        right,
        348,
        width,
        76,
        "linker",
        ["the whole Theano graph becomes", "one TensorFlow function"],
        pymc3,
    )
    drawing.arrow((other, 424), (other, 446))
    drawing.box(
        right,
        448,
        width,
        76,
        "nuts, sampling",
        ["function and sampler compiled by XLA;", "chains run in threads"],
        pymc3,
    )
    drawing.arrow((middle, 424), (middle, 560))
    drawing.text(middle + 10, 490, "PyMC3's step methods", anchor="start")
    drawing.text(middle + 10, 508, "in a process for each chain", anchor="start")
    drawing.arrow((other, 524), (other, 560))
    drawing.box(
        left,
        562,
        720,
        58,
        "draws",
        ["InferenceData, with the log likelihoods and data of TFDensity: model, patches"],
    )
    return str(drawing)


if __name__ == "__main__":
    for picture in (packages, data):
        (IMAGES / f"{picture.__name__}.svg").write_text(picture(), encoding="utf-8")
