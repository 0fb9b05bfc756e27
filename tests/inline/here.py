"""An executor that runs `seqjax ...` in this process, one command at a time: no process to start, nothing to import."""

import dataclasses

import launch

from inline import Instant


@dataclasses.dataclass(kw_only=True)
class Here(Instant):
    """Runs a command when it is submitted; `commands` are those that it has run."""

    commands = ()

    def _run(self, job):
        assert job.command[1:3] == ["-m", "seqjax"]
        self.commands = (*self.commands, job.command[3:])
        done = launch.main(*job.command[3:])
        with open(job.log, "a") as log:
            log.write(done.out + done.err)
        return done.code


Executor = Here
