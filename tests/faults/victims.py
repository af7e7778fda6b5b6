"""What is done to a session of a user, and what comes of it. matrix.py runs this in a process.

    python tests/faults/victims.py FAULT SEED TRIALS

The sessions of a fault go on after each trial. A trial is one line of JSON on standard output: what
came out, whether that is right, and how many seconds later the user had control again.
"""

import faulthandler
import importlib
import itertools
import json
import os
import random
import signal
import sys

# Of each fault, the module and the function that yields what comes of one trial after the other.
FAULTS = {
    "fork": "processes:same_draws",
    "forkserver": "processes:same_draws",
    "spawn": "processes:same_draws",
    "chain killed": "processes:chain_killed",
    "Ctrl-C, pm.sample": "interrupts:in_pm_sample",
    "Ctrl-C, pymc3_tf.sample": "interrupts:in_our_sample",
    "no file can grow, C++": "shortages:cache_of_routines",
    "disk full, C++": "shortages:cache_of_routines",
    "disk read-only, C++": "shortages:cache_of_routines",
    "disk full, Theano": "shortages:folder_of_theano",
    "memory short, pm.sample": "shortages:memory_of_pm_sample",
    "memory short, pymc3_tf.sample": "shortages:memory_of_our_sample",
    "server lost, tuning": "servers:lost_in_tuning",
    "server lost, drawing": "servers:lost_in_drawing",
}


def main(fault, seed, trials):
    """Let a fault happen some times in this process."""
    outcomes = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a compiler, say, prints there too
    faulthandler.enable()  # says where it crashes
    faulthandler.register(signal.SIGUSR1)  # and where it hangs
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    module, _, function = FAULTS[fault].partition(":")
    happen = getattr(importlib.import_module(f"faults_{module}"), function)
    for outcome in itertools.islice(happen(fault, random.Random(f"{fault} {seed}")), trials):
        print(json.dumps(outcome), file=outcomes)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
