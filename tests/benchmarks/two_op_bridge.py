"""A bridge of two Theano ops, each of which runs the TensorFlow session: how it was done in 2018.

One op is the log density, the other its vector-Jacobian product, to which the upstream gradient is
fed as one more input. Theano sees nothing that they share. So value and gradient cost two runs of
the session, the second of which computes the value once more.

After D. Foreman-Mackey, "PyMC3 + TensorFlow", https://dfm.io/posts/pymc-tensorflow/ (2018).
"""

import numpy as np
import tensorflow as tf
import theano.tensor as tt
from theano.graph.basic import Apply
from theano.graph.op import Op


class SessionRun(Op):
    """Evaluate what can be fetched from a session for scalars that are fed, and count the runs.

    Parameters
    ----------
    session : tf.compat.v1.Session
    fed : list of tf.Tensor
        Placeholders, one for each input of the op.
    fetched : list of tf.Tensor
        Scalars, one for each output of the op.
    """

    def __init__(self, session, fed, fetched):
        self.session, self.fed, self.fetched = session, fed, fetched
        self.runs = 0

    def make_node(self, *inputs):
        outputs = [tt.dscalar() for _ in self.fetched]
        return Apply(self, [tt.as_tensor_variable(x) for x in inputs], outputs)

    def perform(self, node, inputs, output_storage):
        results = self.session.run(self.fetched, feed_dict=dict(zip(self.fed, inputs)))
        for storage, result in zip(output_storage, results):
            storage[0] = np.array(result)
        self.runs += 1


class TwoOpBridge(SessionRun):
    """The log density, a scalar tensor, as a Theano op of scalar parameters."""

    def __init__(self, session, parameters, logp):
        super().__init__(session, parameters, [logp])
        upstream = tf.compat.v1.placeholder(logp.dtype, ())
        products = tf.gradients(logp, parameters, grad_ys=upstream)
        self.vjp = SessionRun(session, [*parameters, upstream], products)

    def grad(self, inputs, output_gradients):
        return self.vjp(*inputs, *output_gradients)

    @property
    def all_runs(self):
        """How many times the session has run, for the value and for the gradient."""
        return self.runs + self.vjp.runs
