"""A worker of cluster.py: a server of TensorFlow's distributed runtime, and nothing else.

    python cluster_worker.py 1 127.0.0.1:2222 127.0.0.1:2223

serves as task 1 of two, until its standard input is closed: it ends with the process that started
it, whatever becomes of that.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up lines

import tensorflow as tf

if __name__ == "__main__":
    cluster = tf.train.ClusterSpec({"worker": sys.argv[2:]})
    server = tf.distribute.Server(cluster, job_name="worker", task_index=int(sys.argv[1]))
    print(server.target, flush=True)
    sys.stdin.read()
    os._exit(0)
