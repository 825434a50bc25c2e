# Part of _core.pyx: the process's one pool of threads, which all nets share.

MAX_THREADS = 255

cdef mbp_pool *shared_pool = NULL  # made for the first net; its threads start when work first wants them


cdef mbp_pool *pool() except NULL:
    global shared_pool
    cdef mbp_error error
    if shared_pool == NULL:
        check(mbp_pool_create(&shared_pool, MAX_THREADS, NULL, &error), &error)
    return shared_pool


def cpus():
    """The processors that this process may use."""
    return mbp_cpus()


def thread_limit():
    """How many threads any net may use at most."""
    return mbp_pool_threads(pool())


def set_thread_limit(int limit):
    cdef mbp_error error
    check(mbp_pool_set_limit(pool(), limit, &error), &error)
