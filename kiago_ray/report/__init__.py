"""What a person looks at: plots, self-contained pages, tables for a terminal. Nothing here writes files."""
