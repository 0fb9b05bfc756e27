"""An executor that runs `seqjax ...` in this process, one command at a time: no process to start, nothing to import."""

import dataclasses

import launch

from seqjax.search.executors import _base


@dataclasses.dataclass(kw_only=True)
class Here(_base.Executor):
    """Runs a command when it is submitted; `commands` are those that it has run."""

    commands = ()

    def _start(self, job, slot):
        assert job.command[1:3] == ["-m", "seqjax"]
        self.commands = (*self.commands, job.command[3:])
        done = launch.main(*job.command[3:])
        with open(job.log, "a") as log:
            log.write(done.out + done.err)
        return done.code

    def _poll(self, handle):
        return handle

    def _terminate(self, handle):
        pass

    def _kill(self, handle):
        pass


Executor = Here
