"""Tables and run directories, on this machine's disk or on any filesystem that pyarrow opens."""
