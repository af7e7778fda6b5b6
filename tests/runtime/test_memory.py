"""A limit on memory is an error where compiling has no room, and a session goes on after it."""

from support import run_text


def test_no_room_to_compile():
    process = run_text(
        """
        import resource

        import pymc3_tf  # before pymc3, for Python 3.11
        import pymc3 as pm
        from pymc3_tf.runtime import memory

        with pm.Model() as model:
            pm.Normal("x", 1.0, 1.0)

        def sample():
            idata = pymc3_tf.sample(
                500, tune=300, model=model, random_seed=1, progressbar=False
            )
            return float(idata.posterior["x"].mean())

        before = resource.getrlimit(resource.RLIMIT_AS)
        for room in (memory.FIRST_PROGRAM // 2, memory.FIRST_PROGRAM - (1 << 20)):
            resource.setrlimit(resource.RLIMIT_AS, (memory.in_use() + room, before[1]))
            try:
                sample()
            except MemoryError as error:
                resource.setrlimit(resource.RLIMIT_AS, before)
                print(error)
        print("mean", sample())
        """
    )
    *errors, mean = process.stdout.splitlines()
    assert len(errors) == 2 and all("ulimit -v" in error for error in errors), process.stderr
    assert all("Raise the limit, or sample with pm.sample()" in error for error in errors)
    assert abs(float(mean.split()[1]) - 1.0) < 0.2
