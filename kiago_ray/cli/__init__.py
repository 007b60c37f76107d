"""The command line, `kiago …`: a thin layer over the library. A command's module is imported when it is called."""
