"""How a user's function takes its arguments: by name, by position, or as many as there are."""

from __future__ import annotations

import inspect
from typing import Any, Callable, List, Mapping, NamedTuple, Optional

from pymc3_tf.exceptions import DeclarationTypeError

_NAMED = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
)


class Arguments(NamedTuple):
    """What a function can be given."""

    names: List[str]
    required: List[str]  # those without a default
    first: Optional[str]  # None if they have no order
    takes_any: bool  # further arguments, by name (**kwargs) or by position (*args)


def arguments_of(function: Callable[..., Any], name: str) -> Arguments:
    """Return the arguments of a function, which error messages call ``name``."""
    try:
        parameters = list(signature_of(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise DeclarationTypeError(
            f"the arguments of {name}, {function!r}, cannot be read. Wrap it in a function that "
            "names them: lambda value, scale: ..."
        ) from error
    named = [p for p in parameters if p.kind in _NAMED]
    required = [p.name for p in named if p.default is p.empty]
    first = next((p.name for p in named if p.kind != p.KEYWORD_ONLY), None)
    return Arguments([p.name for p in named], required, first, len(named) < len(parameters))


def call_by_name(function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Call a function with values by name, in whatever way it takes them."""
    parameters = list(signature_of(function).parameters.values())
    kinds = {p.kind for p in parameters}
    known = {p.name for p in parameters if p.kind in _NAMED}
    more = [] if inspect.Parameter.VAR_KEYWORD in kinds else [n for n in given if n not in known]
    if not more and inspect.Parameter.POSITIONAL_ONLY not in kinds:
        try:
            return function(**given)
        except ValueError as error:
            # tf.custom_gradient refuses names in a graph, before it calls the function.
            if "keywords arguments only when eager" not in str(error):
                raise
    remaining = dict(given)
    ordered = [p for p in parameters if p.kind in _NAMED and p.kind != p.KEYWORD_ONLY]
    while ordered and not more and ordered[-1].name not in remaining:
        ordered.pop()  # its default is the function's own matter
    positional = [remaining.pop(p.name, p.default) for p in ordered]
    positional += [remaining.pop(name) for name in more]
    return function(*positional, **remaining)


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a function, of TensorFlow's kinds of functions too."""
    named = getattr(function, "structured_input_signature", None)
    if named is not None:
        # A traced function; Python knows nothing of its arguments.
        positional, by_name = named
        ordered, unordered = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        return inspect.Signature(
            [inspect.Parameter(spec.name, ordered) for spec in positional]
            + [inspect.Parameter(name, unordered) for name in by_name]
        )
    return inspect.signature(function)
