"""A bridge of two Theano ops, each of which runs the TensorFlow session: how it was done in 2018.

One op is the log density, the other its gradient, and Theano sees nothing that they share. So value
and gradient cost two runs of the session, the second of which computes the value once more.
"""

import numpy as np
import theano.tensor as tt
from theano.graph.basic import Apply
from theano.graph.op import Op


class SessionRun(Op):
    """Evaluate tensors of scalar parameters with ``session.run``, and count the runs."""

    def __init__(self, session, parameters, tensors):
        self.session = session
        self.parameters = parameters
        self.tensors = tensors
        self.runs = 0

    def make_node(self, *inputs):
        return Apply(self, [tt.as_tensor_variable(x) for x in inputs], self.new_outputs())

    def new_outputs(self):
        return [tt.dscalar() for _ in self.tensors]

    def perform(self, node, inputs, output_storage):
        feed_dict = dict(zip(self.parameters, inputs))
        for storage, result in zip(output_storage, self.session.run(self.tensors, feed_dict)):
            storage[0] = np.array(result)
        self.runs += 1


class TwoOpBridge(SessionRun):
    """The log density as a Theano op; its gradient is a second op.

    Parameters
    ----------
    session : tf.compat.v1.Session
    parameters : list of tf.Tensor
        Scalar placeholders.
    logp : tf.Tensor
        The log density, a scalar.
    gradients : list of tf.Tensor
        Its derivative by each parameter.
    """

    def __init__(self, session, parameters, logp, gradients):
        super().__init__(session, parameters, [logp])
        self.gradient = SessionRun(session, parameters, gradients)

    def grad(self, inputs, output_gradients):
        return [output_gradients[0] * g for g in self.gradient(*inputs)]

    @property
    def all_runs(self):
        """How many times the session has run, for the value and for the gradient."""
        return self.runs + self.gradient.runs
