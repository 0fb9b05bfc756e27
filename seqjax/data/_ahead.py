"""Reading ahead: batches are made while the step before them runs, in a thread or in processes."""

import functools
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from seqjax import lookup
from seqjax.types import DataError


def read(
    steps: Sequence[int],
    batch: Callable,
    workers: int,
    prefetch: int,
    timeout: float,
    give_up: Callable = lambda: False,
) -> Iterator:
    """Yields `batch(step)` for each step, in order; ends early if `give_up()` while none is there.

    Raises:
      DataError: `batch` raised, a worker died, or nothing came for `timeout` seconds.
    """
    if not workers:
        yield from _watched(map(batch, steps), prefetch, timeout, give_up)
        return
    # Each evaluation has workers of its own, while those of training go on.
    others = set(multiprocessing.active_children())
    iterator = _in_processes(steps, batch, workers)
    try:
        yield from _watched(iterator, prefetch, timeout, give_up)
    finally:
        # Grain would wait 25 s for each worker that hangs.
        closing = threading.Thread(target=iterator.close, daemon=True)
        closing.start()
        closing.join(timeout=2)
        for worker in set(multiprocessing.active_children()) - others:
            worker.kill()


def _in_processes(steps, batch, workers: int):
    import grain  # a second to import: only where it is used
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain's workers ask for parsed flags
    dataset = grain.MapDataset.source(steps).map(batch)
    dataset = dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=1))
    # Through pipes: what a killed process leaves in shared memory stays there, and containers have little of it.
    pipes = grain.experimental.DatasetOptions(min_shm_size=2**62)
    dataset = grain.experimental.WithOptionsIterDataset(dataset, pipes)
    os.environ["PYTHONSAFEPATH"] = "1"  # of workers: no file of the current folder stands for a module of others
    begin = functools.partial(_begin_worker, lookup.imported())
    return iter(dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers), worker_init_fn=begin))


def _begin_worker(modules: list[str], index: int, count: int) -> None:
    """In a worker: signals are the parent's business, and without a parent there is nothing to do.

    The modules are those that the config names: they may lie in the current folder, where only `lookup` finds them.
    """
    del os.environ["PYTHONSAFEPATH"]
    for module in modules:
        lookup.outside(module)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

    def end_with_parent():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _watched(iterator, prefetch: int, timeout: float, give_up: Callable):
    """Reads ahead in a thread, so that reading overlaps with training and a source that hangs can be given up."""
    ahead: queue.Queue = queue.Queue(maxsize=prefetch)
    stop = threading.Event()

    def put(item) -> bool:
        while not stop.is_set():
            try:
                ahead.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def read_all():
        try:
            for batch in iterator:
                if not put((batch, None)):
                    return
            put((None, None))
        except BaseException as error:  # of a thread, nobody else would hear: sys.exit in a source, too
            put((None, error))

    # A daemon: a source that never returns must not keep the process alive.
    threading.Thread(target=read_all, daemon=True, name="seqjax-loader").start()
    try:
        silent = time.monotonic()
        while True:
            try:
                # Not longer: a signal that comes just before the wait is seen behind it.
                batch, error = ahead.get(timeout=min(timeout, 0.5))
            except queue.Empty:
                if give_up():
                    return
                if time.monotonic() - silent < timeout:
                    continue
                raise DataError(
                    f"no batch for {timeout:g} s (loader.timeout): the source hangs or is slower than that."
                ) from None
            if isinstance(error, DataError):
                raise error
            if error is not None:
                raise DataError(f"reading ahead failed: {type(error).__name__}: {error}") from error
            if batch is None:
                return
            yield batch
            silent = time.monotonic()
    finally:
        stop.set()
