"""Which variable of a model it is that TensorFlow cannot compute, or XLA not compile."""

from __future__ import annotations

import numpy as np
import pymc3 as pm
import tensorflow as tf

from pymc3_tf.bridge.op import tensorflow_ops
from pymc3_tf.exceptions import CompilationError, EvaluationError, message
from pymc3_tf.linker import compile_alone
from pymc3_tf.programs.program import Program
from pymc3_tf.sampling.unconstrained import UnconstrainedModel

# What is shown of an error of TensorFlow, which can have the values of whole arrays.
_SHOWN = 200


def refuse_clusters(model: pm.Model) -> None:
    """Raise an error if a part of a model lives on a cluster, where XLA does not compile.

    Raises
    ------
    CompilationError
        It names the variable.
    """
    for variable in [*model.basic_RVs, *model.potentials, *model.deterministics]:
        for op in tensorflow_ops(getattr(variable, "logpt", variable)):
            if op.program.cluster:
                raise CompilationError(
                    f"{variable.name!r} lives on the cluster {op.program.cluster.target}, and "
                    "XLA compiles for this process only. Use pm.sample()."
                )


def of_evaluation(
    unconstrained: UnconstrainedModel, position: np.ndarray, error: Exception
) -> EvaluationError:
    """Return the error for a position at which TensorFlow failed. It names the variable.

    Parameters
    ----------
    unconstrained : UnconstrainedModel
    position : array, shape (size,)
    error : Exception
        What was raised there.
    """
    try:
        require_computable(unconstrained, position)
    except EvaluationError as found:
        return found
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return of_memory(error)
    return EvaluationError(f"the model cannot be computed where sampling starts: {_short(error)}")


def require_computable(unconstrained: UnconstrainedModel, position: np.ndarray) -> None:
    """Evaluate the variables of a model one by one, and name the first at which TensorFlow fails.

    Raises
    ------
    EvaluationError
        If there is one.
    """
    for name, output in unconstrained.terms():
        try:
            unconstrained.evaluate(output, position)
        except tf.errors.ResourceExhaustedError as error:
            raise of_memory(error) from None
        except tf.errors.OpError as error:
            raise EvaluationError(
                f"{name!r} cannot be computed where sampling starts: {_short(error)} {_mend(error)}"
            ) from None


def of_memory(error: Exception) -> EvaluationError:
    """Return the error for a model that does not fit into memory."""
    return EvaluationError(
        f"the memory is not enough: {_short(error)} Run fewer chains at a time (chains=, cores=; "
        "chain_method='parallel'), leave out the log likelihood (idata_kwargs={'log_likelihood': "
        "False}), or compute with smaller arrays."
    )


def of_sampling(model: pm.Model, error: tf.errors.OpError, jit_compile: bool) -> Exception:
    """Return the error for a sampler that failed after its chains had started.

    Parameters
    ----------
    model : pymc3.Model
    error : tf.errors.OpError
    jit_compile : bool
        Whether it was to be compiled by XLA.
    """
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return of_memory(error)
    if jit_compile:
        return _of_compilation(model, error)
    return EvaluationError(
        f"TensorFlow failed while sampling: {_short(error)} Where XLA would go on with NaN, a "
        "divergence, TensorFlow's own ops end the run. Use pm.sample(), which counts a divergence "
        "too."
    )


def _of_compilation(model: pm.Model, error: Exception) -> Exception:
    for variable in [*model.basic_RVs, *model.potentials]:
        for op in tensorflow_ops(getattr(variable, "logpt", variable)):
            reason = why_not_compiled(op.program)
            if reason:
                return CompilationError(
                    f"XLA cannot compile the TensorFlow part of {variable.name!r}: {reason} Use "
                    "pm.sample(), or pymc3_tf.sample(jit_compile=False): they do not compile it."
                )
    if isinstance(error, (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError)):
        return CompilationError(
            f"XLA cannot compile the model: {_short(error)} Use pm.sample(), or, if it was asked "
            "for chain_method='vectorized', chain_method='parallel'."
        )
    return EvaluationError(
        f"TensorFlow failed while sampling ({type(error).__name__}): {_short(error)} Use "
        "pm.sample(), or pymc3_tf.sample(jit_compile=False)."
    )


def why_not_compiled(program: Program) -> str:
    """Say why XLA cannot compile a program; empty if it can."""
    unsupported = program.unsupported_by_xla()
    if unsupported:
        return f"it knows no {', '.join(unsupported)}."
    try:
        compile_alone(program)
    except tf.errors.OpError as error:
        return _short(error)
    return ""


def _short(error: Exception) -> str:
    text = message(error)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _mend(error: Exception) -> str:
    if any(word in str(error) for word in ("indices", "segment_id", "slice index", "index ")):
        return (
            "An index is out of bounds. Let it count from 0 to one less than the length, in the "
            "data too (pm.set_data)."
        )
    return "Give a start or data where it can be computed, or mend its formula."
