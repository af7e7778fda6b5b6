"""The 2 GB that a TensorFlow graph may have at most."""

from __future__ import annotations

import contextlib
import re
from typing import Iterator

from google.protobuf.message import Error as ProtobufError

from pymc3_tf.exceptions import GraphSizeError


def is_too_large(error: Exception) -> bool:
    """Whether an error of TensorFlow, or of its serialization, is about the size of a graph."""
    text = re.search(r"\b2 ?GB|maximum protobuf size|[Ff]ailed to serialize proto", str(error))
    return isinstance(error, ProtobufError) or text is not None


def size_error(what: str, error: Exception, where: str = "") -> GraphSizeError:
    """Return the error for constants that are too large."""
    return GraphSizeError(
        f"{what} is over 2 GB, more than TensorFlow can serialize ({error}){where}. Replace its "
        "large constants by arguments of the function, or placeholders of the graph, and hand the "
        "arrays over by feed_dict."
    )


@contextlib.contextmanager
def size_checked(name: str) -> Iterator[None]:
    """Say what to do where a graph is too large."""
    try:
        yield
    except (ValueError, ProtobufError) as error:
        if not is_too_large(error):
            raise
        raise size_error(f"the graph of {name}", error) from error
