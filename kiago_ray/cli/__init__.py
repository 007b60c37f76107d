"""The command line, `kiago …`: a thin layer over the library; commands import what they need when they run."""
