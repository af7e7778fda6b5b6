"""What is checked: a model, one of its variables, or the result of a TensorFlowOp."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np
import pymc3 as pm
from pymc3.util import get_untransformed_name, is_transformed_name, update_start_vals
from theano.compile.sharedvalue import SharedVariable
from theano.graph.basic import Constant, Variable, ancestors, graph_inputs

from pymc3_tf.bridge.op import free_inputs, tensorflow_nodes
from pymc3_tf.model.diagnosis import Point, terms
from pymc3_tf.programs.program import Program


class Part(NamedTuple):
    """A variable whose log density, or whose value, is computed by TensorFlow."""

    name: str
    variable: Variable
    output: Variable  # the log density, or the variable itself


class Applied(NamedTuple):
    """A program, and what it is applied to at a point."""

    name: str  # of the variable
    program: Program
    values: List[np.ndarray]
    free: List[int]  # the inputs that are no data


class Subject:
    """What is checked.

    Parameters
    ----------
    given : pymc3.Model or TensorVariable
        A model, a random variable of a model, or what is computed by a TensorFlowOp.

    Attributes
    ----------
    name : str
    model : pymc3.Model or None
    parts : list of Part
        The variables that are computed by TensorFlow.
    is_model : bool
        Whether it is the model as a whole.
    """

    def __init__(self, given: Any) -> None:
        self.is_model = isinstance(given, pm.Model)
        self.model: Optional[pm.Model] = given if self.is_model else _model_of(given)
        if self.is_model:
            self.name = given.name or "the model"
            every = [_part(v) for v in [*terms(given), *given.deterministics]]
        else:
            self.name = given.name or "the variable"
            every = [_part(getattr(given, "transformed", given), given.name)]
        self.parts = [part for part in every if tensorflow_nodes(part.output)]
        if not self.is_model and not self.parts:
            raise TypeError(
                f"{self.name!r} has nothing that TensorFlow computes. Give a pm.Model, a variable "
                "of one that is made by pm.TFDensity, or what a pymc3_tf.TensorFlowOp returned."
            )
        if self.model is not None:
            self.inputs = list(self.model.vars)
        else:
            found = dict.fromkeys(x for p in self.parts for x in graph_inputs([p.output]))
            self.inputs = [x for x in found if not isinstance(x, (Constant, SharedVariable))]

    def point(self, given: Optional[Mapping[str, Any]] = None) -> Point:
        """Return the test point, or where a point is given, that one completed by it.

        Raises
        ------
        ValueError
            If a point has a name that is no free variable.
        """
        given = dict(given or {})
        if self.model is None:
            names = [x.name for x in self.inputs]
            known = {x.name: getattr(x.tag, "test_value", None) for x in self.inputs}
        else:
            names, known = [x.name for x in self.inputs], dict(self.model.test_point)
        plain = [get_untransformed_name(n) for n in names if is_transformed_name(n)]
        for name in given:
            if name not in [*names, *plain]:
                raise ValueError(
                    f"point has {name!r}, which is no free variable of {self.name}. Its free "
                    f"variables are: {', '.join(map(str, [*names, *plain]))}."
                )
        if self.model is not None:
            update_start_vals(given, known, self.model)
        values = {**known, **given}
        missing = [name for name in names if values[name] is None]
        if missing:
            raise ValueError(
                f"{', '.join(map(repr, missing))} has no value. Set x.tag.test_value, or give a "
                "point."
            )
        return Point(self.inputs, [np.asarray(values[x.name], x.dtype) for x in self.inputs])

    def applied(self, point: Point) -> List[Applied]:
        """Return each program with the values of its inputs at a point."""
        nodes: Dict[Any, str] = {}
        for part in self.parts:
            for node in tensorflow_nodes(part.output):
                nodes.setdefault(node, part.name)
        values = iter(point.values([x for node in nodes for x in node.inputs]))
        return [
            Applied(
                name,
                node.op.program,
                [np.asarray(next(values), spec.dtype) for spec in node.op.program.inputs],
                free_inputs(node),
            )
            for node, name in nodes.items()
        ]


def _part(variable: Variable, name: Optional[str] = None) -> Part:
    own = name or variable.name
    if hasattr(variable, "logpt"):
        own = get_untransformed_name(own) if is_transformed_name(own) else own
        return Part(own, variable, variable.logpt)
    return Part(own or "the variable", variable, variable)


def _model_of(given: Any) -> Optional[pm.Model]:
    """Return the model to which a variable belongs, or from whose variables it is computed."""
    if not isinstance(given, Variable):
        raise TypeError(
            f"{given!r} cannot be checked. Give a pm.Model, a variable of one, what a "
            "pymc3_tf.TensorFlowOp returned, or a function without arguments that declares one of "
            "them."
        )
    models: Sequence[Any] = [getattr(x, "model", None) for x in [given, *ancestors([given])]]
    return next((model for model in models if isinstance(model, pm.Model)), None)
