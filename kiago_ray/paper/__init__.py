"""The paper's experiments, runnable: every table and figure, ours beside what is printed."""
