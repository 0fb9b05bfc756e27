"""The commands of `seqjax`: one file each, with `ABOUT`, `EXAMPLES`, `options(parser)` and `run(args)`."""
