"""`python -m seqjax` is the console script `seqjax`."""

from seqjax.cli import main

if __name__ == "__main__":
    main()
