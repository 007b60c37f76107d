"""The HTTP service without its servers: what it answers, what it refuses, its searches on storage, its page."""
