"""Clusters: servers of TensorFlow's distributed runtime, on which the graph of a density lives.

A program that belongs to a cluster is not frozen. Its variables, and the data in them, stay on the
servers that have them; parameters go there, and a log density and its gradient come back. Each
process opens a session of its own. What does not answer in time is an error, never a hang.
"""

from __future__ import annotations

import dataclasses
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, List, Optional

import tensorflow as tf

from pymc3_tf.exceptions import (
    DeclarationError,
    UninitializedVariableError,
    UnreachableClusterError,
    WorkerLostError,
)
from pymc3_tf.private_tensorflow import config_of, target_of
from pymc3_tf.programs.serialized import GraphDef

# Seconds after which a call of the cluster is given up, unless the session's config says another
# number, and seconds in which a server has to say that it is there. Together less than 30.
CALL_TIMEOUT = 20
PROBE_TIMEOUT = 5

# What a call says of a server that is gone, or that came back without its variables.
_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.NotFoundError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
)

_TASK = re.compile(r"/job:\w+/replica:\d+/task:\d+")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Where a session runs its graph.

    Parameters
    ----------
    target : str
        What the session is connected to, such as ``grpc://127.0.0.1:2222``.
    config : bytes
        The serialized ``ConfigProto`` of the user's session.
    task : str
        The task of the server at `target`, such as ``/job:worker/replica:0/task:0``.
    """

    target: str
    config: bytes = dataclasses.field(default=b"", repr=False)
    task: str = ""

    @classmethod
    def of(cls, session: Optional[tf.compat.v1.Session]) -> Optional[Cluster]:
        """Return the cluster of a session; None for a session of this process.

        Raises
        ------
        pymc3_tf.exceptions.UnreachableClusterError
            If the server to which the session is connected does not answer.
        """
        target = target_of(session)
        if session is None or not target:
            return None
        config = config_of(session)
        if config.isolate_session_state or config.HasField("cluster_def"):
            raise DeclarationError(
                f"the variables of the session of {target} are its own (its config has "
                "isolate_session_state or cluster_def), and each process samples in a session "
                "of its own. Make the session without them."
            )
        cluster = cls(target, config.SerializeToString(deterministic=True))
        try:
            devices = cluster._devices("/job:none")  # its own devices are there in any case
        except tf.errors.OpError as error:
            raise UnreachableClusterError(
                f"the server {target} of the session does not answer ({_first_line(error)}). Start "
                "the servers of the cluster, or mend the address of the session."
            ) from error
        return dataclasses.replace(cluster, task=devices[0].rsplit("/device:", 1)[0])

    @property
    def seconds(self) -> float:
        """How long a call may take."""
        return self._timed_config().operation_timeout_in_ms / 1000

    def session(self, graph: tf.Graph) -> tf.compat.v1.Session:
        """Open a session of this process, which sees the variables of the user's."""
        return _Session(self.target, graph=graph, config=self._timed_config())

    def check_variables(self, graph_def: GraphDef, variables: List[str], name: str) -> None:
        """See that all variables have a value, without reading any.

        Parameters
        ----------
        graph_def : tf.compat.v1.GraphDef
            Has the nodes of the variables.
        variables : list of str
            Names of these nodes.
        name : str
            What the computation is called in error messages.

        Raises
        ------
        pymc3_tf.exceptions.UninitializedVariableError
            If one has none.
        pymc3_tf.exceptions.UnreachableClusterError
            If a task of the cluster does not answer.
        """
        nodes = {node.name: node for node in graph_def.node}
        own = tf.compat.v1.GraphDef(
            node=[nodes[variable] for variable in variables], versions=graph_def.versions
        )
        with tf.Graph().as_default() as graph:
            found = tf.import_graph_def(own, return_elements=[f"{v}:0" for v in variables], name="")
            checks = [_is_initialized(variable) for variable in found]
        try:
            values = self.session(graph).run(checks)
        except tf.errors.OpError as error:
            raise UnreachableClusterError(f"{name}: {self.explain(error, graph_def)}") from error
        missing = [variable for variable, value in zip(variables, values) if not value]
        if missing:
            raise UninitializedVariableError(
                f"{name} needs variables that have no value on the cluster {self.target}: "
                f"{', '.join(map(repr, missing))}. Run "
                "session.run(tf.compat.v1.global_variables_initializer()) or restore a checkpoint "
                "first."
            )

    def guarded(self, call: Callable[..., Any], graph_def: GraphDef) -> Callable[..., Any]:
        """Let a call raise `WorkerLostError`, with the name of the task that is gone."""

        def guarded(*values: Any) -> Any:
            try:
                return call(*values)
            except _LOST as error:
                raise WorkerLostError(self.explain(error, graph_def)) from error

        return guarded

    def explain(self, error: tf.errors.OpError, graph_def: GraphDef) -> str:
        """Say which task of the cluster does not answer, or else what is wrong."""
        # TensorFlow names the task to which its connection broke, but not one that is just silent.
        lost = sorted(set(_TASK.findall(error.message)))
        if not isinstance(error, tf.errors.UnavailableError) or len(lost) != 1:
            lost = self._silent(graph_def)
        if lost:
            return (
                f"{', '.join(lost)} of the cluster {self.target} "
                f"{'does' if len(lost) == 1 else 'do'} not answer. Its server has ended, or cannot "
                "be reached. Start it again, fill its variables, and declare the density again."
            )
        if isinstance(error, tf.errors.DeadlineExceededError):
            return (
                f"a call of the cluster {self.target} took longer than {self.seconds:g} seconds, "
                "and all of its tasks are there. Give it more time: tf.compat.v1.Session(target, "
                "config=tf.compat.v1.ConfigProto(operation_timeout_in_ms=...))."
            )
        return (
            f"the cluster {self.target} answers, but could not compute the density: "
            f"{_first_line(error)} If a server was started again, fill its variables and declare "
            "the density again."
        )

    def _timed_config(self) -> Any:
        config = tf.compat.v1.ConfigProto.FromString(self.config)
        config.operation_timeout_in_ms = config.operation_timeout_in_ms or 1000 * CALL_TIMEOUT
        return config

    def _silent(self, graph_def: GraphDef) -> List[str]:
        tasks = self._tasks(graph_def)
        with ThreadPoolExecutor(max(1, len(tasks))) as pool:
            answers = list(pool.map(self._answers, tasks))
        return [task for task, answer in zip(tasks, answers) if not answer]

    def _tasks(self, graph_def: GraphDef) -> List[str]:
        """Return the tasks that a graph needs; one only if the others are reached through it."""
        if self.task and not self._answers(self.task):
            return [self.task]
        devices = (tf.DeviceSpec.from_string(node.device) for node in graph_def.node if node.device)
        named = {(d.job, d.task or 0) for d in devices if d.job is not None}
        return [f"/job:{job}/replica:0/task:{task}" for job, task in sorted(named)]

    def _answers(self, task: str) -> bool:
        try:
            self._devices(task)
        except tf.errors.OpError:
            return False
        return True

    def _devices(self, task: str) -> List[str]:
        """Return the devices of a task and of the target, without asking any other task."""
        if not _is_listening(self.target):
            raise tf.errors.UnavailableError(None, None, f"nothing listens at {self.target}")
        config = self._timed_config()
        config.operation_timeout_in_ms = 1000 * PROBE_TIMEOUT
        del config.device_filters[:]
        config.device_filters.append("/job:none" if task == self.task else task)
        with tf.Graph().as_default() as graph:
            one = tf.constant(1)
        session = _Session(self.target, graph=graph, config=config)
        session.run(one)  # connects
        return [device.name for device in session.list_devices()]


class _Session(tf.compat.v1.Session):
    """A session that does not wait at its end for a server that has ended before."""

    def close(self) -> None:
        if _is_listening(target_of(self)):
            super().close()


def _is_listening(target: str) -> bool:
    host, _, port = target.rpartition("/")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_TIMEOUT).close()
    except OSError:
        return False
    except ValueError:
        pass  # an address of another kind
    return True


def _is_initialized(variable: tf.Tensor) -> tf.Tensor:
    if variable.dtype == tf.resource:
        return tf.raw_ops.VarIsInitializedOp(resource=variable)
    return tf.raw_ops.IsVariableInitialized(ref=variable)


def _first_line(error: tf.errors.OpError) -> str:
    lines = [line for line in error.message.splitlines() if line.strip("= ")]
    lines = [line for line in lines if "Graph execution error" not in line]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
