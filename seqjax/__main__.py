"""`python -m seqjax` is the console script `seqjax`."""

import contextlib
import os
import sys

if __name__ == "__main__":
    with contextlib.suppress(FileNotFoundError):  # the folder is gone
        if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:  # its files must not hide installed modules
            del sys.path[0]
    from seqjax.cli import main

    main()
