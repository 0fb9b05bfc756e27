"""What is built of mixers, one file each; a file exposes `Model` under its own name."""
