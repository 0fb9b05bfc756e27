"""Reads ahead: makes batches in a thread or in processes while the step before them runs."""

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
    """Yields `batch(step)` for each step, in order; ends early if `give_up()` is true while no batch is ready.

    Raises:
      DataError: `batch` raised, a worker died, or no batch came for `timeout` seconds.
      MemoryError: `batch` raised it.
    """
    if not workers:
        yield from _watched(map(batch, steps), prefetch, timeout, give_up)
        return
    # Each evaluation starts its own workers, while those of training keep running.
    others = set(multiprocessing.active_children())
    iterator = _in_processes(steps, batch, workers)
    try:
        yield from _watched(iterator, prefetch, timeout, give_up)
    finally:
        # Without this thread, grain would wait 25 s for each worker that hangs.
        closing = threading.Thread(target=iterator.close, daemon=True)
        closing.start()
        closing.join(timeout=2)
        for worker in set(multiprocessing.active_children()) - others:
            worker.kill()


def _in_processes(steps, batch, workers: int):
    import grain  # here, because the import takes a second
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain's workers need parsed flags
    dataset = grain.MapDataset.source(steps).map(batch)
    dataset = dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=1))
    # Use pipes: a killed process would never free its shared memory, and containers have little of it.
    pipes = grain.experimental.DatasetOptions(min_shm_size=2**62)
    dataset = grain.experimental.WithOptionsIterDataset(dataset, pipes)
    os.environ["PYTHONSAFEPATH"] = "1"  # for workers: no file in the current folder may shadow a module
    begin = functools.partial(_begin_worker, lookup.imported())
    return iter(dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers), worker_init_fn=begin))


def _begin_worker(modules: list[str], index: int, count: int) -> None:
    """Prepares a worker: it ignores signals, which the parent handles, and it ends when the parent ends.

    `modules` are those that the config names: they may be in the current folder, where only `lookup` finds them.
    """
    del os.environ["PYTHONSAFEPATH"]
    for module in modules:
        lookup.outside(module)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

    def end_with_parent():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _watched(iterator, prefetch: int, timeout: float, give_up: Callable):
    """Reads ahead in a thread, so that reading overlaps with training and a source that hangs can be abandoned."""
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
        except BaseException as error:  # else an error in the thread is lost, also sys.exit in a source
            put((None, error))

    # A daemon thread: a source that never returns must not keep the process alive.
    threading.Thread(target=read_all, daemon=True, name="seqjax-loader").start()
    try:
        silent = time.monotonic()
        while True:
            try:
                # At most 0.5 s: a signal that comes just before the wait is seen only after the wait.
                batch, error = ahead.get(timeout=min(timeout, 0.5))
            except queue.Empty:
                if give_up():
                    return
                if time.monotonic() - silent < timeout:
                    continue
                raise DataError(
                    f"no batch for {timeout:g} s (loader.timeout): the source hangs or is slow: mend it, or "
                    "raise loader.timeout."
                ) from None
            if isinstance(error, (DataError, MemoryError)):
                raise error
            if error is not None:
                raise DataError(f"reading ahead failed: {type(error).__name__}: {error}") from error
            if batch is None:
                return
            yield batch
            silent = time.monotonic()
    finally:
        stop.set()
