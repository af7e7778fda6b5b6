"""Formulas as MathML, which browsers draw themselves: pages need no script and no network."""

from docutils.nodes import SkipNode
from latex2mathml.converter import convert


def formula(latex, display):
    """Return the MathML of a formula."""
    # The converter knows the environment by its older name.
    return convert(latex.replace("{aligned}", "{split}"), display=display)


def inline(translator, node):
    translator.body.append(formula(node.astext(), "inline"))
    raise SkipNode


def block(translator, node):
    translator.body.append(f'<div class="math">{formula(node.astext(), "block")}</div>\n')
    raise SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
