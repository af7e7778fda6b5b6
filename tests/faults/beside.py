"""A thread that does something to a process while a block of code runs."""

import threading


class Beside:
    """Runs its ``work`` in a thread while a block of code runs; then `over` is set."""

    def __init__(self):
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.work)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *error):
        self.over.set()
        self.thread.join()
