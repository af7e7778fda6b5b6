"""TensorFlowOp and its vector-Jacobian product: Theano's side of the bridge, and only that.

One op class serves both. A program's inputs, outputs and shapes are the one specification from
which the op's types, casts, shapes and gradient follow.
"""

from __future__ import annotations

from typing import Any, Callable, List, Mapping, Optional, Sequence, Union

import numpy as np
import tensorflow as tf
import theano
import theano.tensor as tt
from theano.compile.ops import Shape_i
from theano.compile.sharedvalue import SharedVariable
from theano.gradient import DisconnectedType
from theano.graph.basic import Apply, Constant, Variable, ancestors, graph_inputs
from theano.graph.fg import FunctionGraph

from pymc3_tf.bridge.entries import Entries, Given, Key, given_by, known_arguments, native
from pymc3_tf.bridge.interruption import stop_sampling
from pymc3_tf.capture.capture import capture
from pymc3_tf.capture.keys import Input, graph_tensor, same_key, tensors_of, variable_of
from pymc3_tf.capture.signatures import arguments_of
from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError, WorkerLostError
from pymc3_tf.gradients import numerical
from pymc3_tf.programs.differentiation import pull_back
from pymc3_tf.programs.program import Program, TensorSpec
from pymc3_tf.programs.serialized import static_shape
from pymc3_tf.runtime import failures, functions
from pymc3_tf.runtime.devices import checked_device

# What is done once an op is applied: with its program, and what that is applied to.
Check = Optional[Callable[[Program, numerical.At], None]]


class TensorFlowOp(theano.graph.op.Op):
    """A Theano op that computes TensorFlow tensors.

    It is the general bridge: use it in a ``pm.Deterministic``, in a ``pm.Potential``, or as a
    parameter of any distribution. For a log density there is `TFDensity`.

    Parameters
    ----------
    outputs : tf.Tensor, nest of tf.Tensor, or callable
        What to compute: tensors of one TensorFlow graph, of any number, shape and dtype, in lists,
        tuples or dictionaries; or a Python function of TensorFlow ops that returns such tensors.
        The op returns its Theano variables in the same lists, tuples or dictionaries.
    inputs : sequence
        For tensors: the tensors or variables of the graph that become the inputs of the op. For a
        function: a ``tf.TensorSpec`` for each argument that is not in `feed_dict`, in the order of
        the arguments, and variables that the function uses, such as ``layer.kernel``.
    feed_dict : dict or list of pairs, optional
        Data: arrays by tensor, or by argument name. They stay in TensorFlow's memory.
    session : tf.compat.v1.Session, optional
        Holds the values of the graph's variables. Default: TensorFlow's default session. If it is
        connected to a cluster, the computation stays there, live, and its variables are not read.
    jit_compile : bool, optional
        Compile with XLA. Worth it for large elementwise computations.
    device : str, optional
        Where to run it, such as ``"/GPU:0"``. Without it, TensorFlow chooses.
    check_gradient : bool, optional
        Where the op is first applied, look for inputs by which TensorFlow has no gradient, and
        compare the gradient with central differences at the test values of the inputs, if they
        have some. Turn it off for an op whose gradient nobody needs.

    Raises
    ------
    pymc3_tf.exceptions.DeclarationError
        If the computation cannot be frozen, or a feed does not fit. The text names the argument or
        node and says what to write instead.
    pymc3_tf.exceptions.UnsupportedOpError, GradientError, CompilationError
        Where the op is applied, as for `TFDensity`: DeclarationErrors as well.

    Notes
    -----
    The op casts its inputs to the dtypes of the graph. Its gradient is TensorFlow's
    vector-Jacobian product, again an op of this class, so that second derivatives work as well.
    A value and its gradient in one Theano function cost one call of TensorFlow.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorflow as tf
    >>> import pymc3_tf
    >>> import theano.tensor as tt
    >>> wave = pymc3_tf.TensorFlowOp(
    ...     lambda x, a: a * tf.sin(x),
    ...     [tf.TensorSpec([], tf.float64)],
    ...     feed_dict={"x": np.array([0.0, np.pi / 2])},
    ... )
    >>> wave(tt.constant(3.0)).eval()
    array([0., 3.])
    """

    __props__ = ("program",)

    @known_arguments
    def __init__(
        self,
        outputs: Union[tf.Tensor, Sequence[Any], Mapping[str, Any], Callable[..., Any]],
        inputs: Sequence[Any],
        feed_dict: Optional[Entries] = None,
        session: Optional[tf.compat.v1.Session] = None,
        *,
        jit_compile: bool = False,
        device: Optional[str] = None,
        check_gradient: bool = True,
    ) -> None:
        self._check: Check = numerical.check if check_gradient else numerical.compile
        feeds = given_by(feed_dict, "feed_dict")
        for feed in feeds:
            _require_data(feed)
        fed = [Input(g.key, str(g.source.dtype), g.source.shape, "feed_dict") for g in feeds]
        given = _function_inputs if callable(outputs) else _tensor_inputs
        free = given(outputs, inputs, [g.key for g in feeds])
        program = capture(
            outputs, free + fed, session=session, jit_compile=jit_compile, name="outputs"
        ).on(checked_device(device))
        data = {spec.node: g.source for spec, g in zip(program.inputs[len(free) :], feeds)}
        self.program = program.bind(data)
        self._structure = program.structure
        for spec in self.program.outputs:
            if spec.shape is None:
                raise DeclarationError(
                    f"TensorFlow does not know the rank of {spec.label}. Say it with "
                    "tf.ensure_shape(output, [None, ...]), None for each unknown dimension."
                )

    @classmethod
    def of(cls, program: Program, check: Check = None) -> TensorFlowOp:
        """Return the op of a program."""
        op = cls.__new__(cls)
        op._check = check
        op.program = program
        number = len(program.outputs)
        op._structure = 0 if number == 1 else list(range(number))
        return op

    def __str__(self) -> str:
        labels = ", ".join(spec.label for spec in self.program.outputs)
        return f"{type(self).__name__}{{{labels}}}"

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        """Apply the op to Theano variables; return them nested as the source nests its tensors."""
        with failures.ignored():
            variables = super().__call__(*inputs, **kwargs)
        if self._check is not None:
            node = as_list(variables)[0].owner
            self._check(self.program, _place(self.program, node))
        return tf.nest.pack_sequence_as(self._structure, as_list(variables))

    def make_node(self, *inputs: Any) -> Apply:
        """Cast the inputs to the dtypes of the graph, and check their number and rank."""
        specs = self.program.inputs
        if len(inputs) != len(specs):
            raise DeclarationTypeError(
                f"{self} takes {len(specs)} inputs ({', '.join(s.label for s in specs)}), "
                f"not {len(inputs)}"
            )
        variables = [_as_input(x, spec) for x, spec in zip(inputs, specs)]
        by_node = {spec.node: x for spec, x in zip(specs, variables)}
        outputs = []
        for spec in self.program.outputs:
            if spec.like in by_node and not self.program.stacked:
                broadcastable = by_node[spec.like].broadcastable
            else:
                assert spec.shape is not None
                broadcastable = [n == 1 for n in spec.shape]
            outputs.append(tt.TensorType(spec.dtype, broadcastable)())
        return Apply(self, variables, outputs)

    def do_constant_folding(self, fgraph: FunctionGraph, node: Apply) -> bool:
        """Tell Theano whether the outputs stay the same: on a cluster, variables may change."""
        return self.program.cluster is None

    def prepare_node(self, node: Apply, storage_map: Any, compute_map: Any, impl: Any) -> None:
        """Build the runtime while Theano compiles: before PyMC3 forks its chains."""
        functions.function(self.program)

    def perform(self, node: Apply, inputs: List[np.ndarray], output_storage: List[Any]) -> None:
        """Call TensorFlow."""
        try:
            results = functions.function(self.program)(inputs)
        except WorkerLostError as error:
            stop_sampling(error)
        for storage, result in zip(output_storage, results):
            storage[0] = result

    def infer_shape(self, fgraph: FunctionGraph, node: Apply, shapes: List[Any]) -> List[Any]:
        """Return the shapes that are known without running the op."""
        by_node = {spec.node: shape for spec, shape in zip(self.program.inputs, shapes)}

        def shape_of(spec: TensorSpec, output: Variable) -> Any:
            if spec.like in by_node and not self.program.stacked:
                return by_node[spec.like]
            dimensions = enumerate(spec.shape or ())
            return tuple(
                Shape_i(i)(output) if n is None else tt.constant(n, dtype="int64")
                for i, n in dimensions
            )

        return [shape_of(*pair) for pair in zip(self.program.outputs, node.outputs)]

    def L_op(
        self, inputs: List[Variable], outputs: List[Variable], output_gradients: List[Variable]
    ) -> List[Variable]:
        """Return the vector-Jacobian product."""
        upstream = [
            tt.zeros_like(y) if isinstance(g.type, DisconnectedType) else g
            for y, g in zip(outputs, output_gradients)
        ]
        return [
            tt.zeros_like(x, dtype=theano.config.floatX) if g is None else g
            for x, g in zip(inputs, pull_back(self.program, inputs, upstream, _apply))
        ]


def _apply(program: Program, inputs: Sequence[Any]) -> List[Any]:
    return as_list(apply(program, inputs))


def apply(program: Program, inputs: Sequence[Variable], check: Check = None) -> Any:
    """Apply a program to Theano variables; its outputs as one variable or a list."""
    return TensorFlowOp.of(program, check)(*inputs)


def bind_constants(program: Program, inputs: Sequence[Variable]) -> Program:
    """Return the program with inputs that are Theano constants made resident."""
    constants = {
        spec.node: x.data for spec, x in zip(program.inputs, inputs) if isinstance(x, Constant)
    }
    return program.bind(constants)


def _place(program: Program, node: Apply) -> numerical.At:
    """Return which inputs of a node are no data, and its test values if it has them all."""
    free = free_inputs(node)
    values: List[Any] = [getattr(x.tag, "test_value", None) for x in node.inputs]
    results: List[Any] = [getattr(y.tag, "test_value", None) for y in node.outputs]
    if any(value is None for value in [*values, *results]):
        return numerical.At(free, None)
    point = [np.asarray(x, spec.dtype) for x, spec in zip(values, program.inputs)]
    return numerical.At(free, (point, [np.shape(y) for y in results]))


def free_inputs(node: Apply) -> List[int]:
    """Return which inputs of a node are no data."""
    return [i for i, x in enumerate(node.inputs) if _is_free(x)]


def _is_free(x: Variable) -> bool:
    """Whether a variable has other inputs than data."""
    return any(not isinstance(v, (Constant, SharedVariable)) for v in graph_inputs([x]))


def _as_input(x: Any, spec: TensorSpec) -> Variable:
    variable = tt.as_tensor_variable(native(x))
    if not np.can_cast(variable.dtype, spec.dtype, "same_kind"):
        raise DeclarationTypeError(
            f"{spec.label!r} is {spec.dtype} in the graph, and its value is {variable.dtype}. "
            f"Make the placeholder floating, or give a value of dtype {spec.dtype}."
        )
    if spec.shape is not None and variable.ndim != len(spec.shape):
        raise DeclarationError(
            f"{spec.label!r} has {len(spec.shape)} dimensions in the graph, and its value has "
            f"{variable.ndim}. Give a value of shape {tf.TensorShape(spec.shape)}."
        )
    return variable if variable.dtype == spec.dtype else tt.cast(variable, spec.dtype)


def as_list(x: Any) -> List[Any]:
    """Return what an op returned as a list, which Theano makes of several outputs only."""
    return list(x) if isinstance(x, (list, tuple)) else [x]


def _require_data(feed: Given) -> None:
    if isinstance(feed.source, Variable):
        raise DeclarationTypeError(
            f"feed_dict: {feed.label!r} is a Theano variable, and feed_dict takes data. Put "
            f"{feed.label!r} into inputs, and give the variable where the op is called."
        )


def _tensor_inputs(outputs: Any, inputs: Sequence[Any], fed: Sequence[Key]) -> List[Input]:
    graph = tensors_of(outputs, "outputs")[0].graph
    for key in inputs:
        graph_tensor(key, graph, "inputs", "outputs")
    return [Input(key, None, None, "inputs") for key in inputs]


def _function_inputs(function: Any, inputs: Sequence[Any], fed: Sequence[Key]) -> List[Input]:
    names = arguments_of(function, "outputs").names
    for key in fed:
        if variable_of(key) is None and not (isinstance(key, str) and key in names):
            raise DeclarationError(
                f"feed_dict has {key!r}, which is not an argument of outputs. Its arguments are: "
                f"{', '.join(names)}."
            )
    open_names = [name for name in names if not any(same_key(name, key) for key in fed)]
    variables = [variable_of(x) for x in inputs]
    given = sum(v is None for v in variables)
    if given > len(open_names):
        raise DeclarationError(
            f"inputs has {given} entries, and the function has {len(open_names)} arguments that "
            f"are not fed ({', '.join(open_names)}). Give one tf.TensorSpec for each."
        )
    remaining = iter(open_names)
    return [
        _specified(x, next(remaining)) if v is None else Input(x, None, None, "inputs")
        for x, v in zip(inputs, variables)
    ]


def _specified(spec: Any, name: str) -> Input:
    if not isinstance(spec, tf.TensorSpec):
        raise DeclarationTypeError(
            f"inputs has {spec!r} for the argument {name!r}. With a function, give a "
            "tf.TensorSpec: tf.TensorSpec([], tf.float64) for a scalar."
        )
    return Input(name, spec.dtype.name, static_shape(spec.shape), "inputs")


def tensorflow_ops(output: Variable) -> List[TensorFlowOp]:
    """Return the TensorFlow ops from which a Theano variable is computed."""
    return [node.op for node in tensorflow_nodes(output)]


def tensorflow_nodes(output: Variable) -> List[Apply]:
    """Return where TensorFlow ops are applied for a Theano variable."""
    nodes = dict.fromkeys(x.owner for x in ancestors([output]) if x.owner is not None)
    return [node for node in nodes if isinstance(node.op, TensorFlowOp)]
