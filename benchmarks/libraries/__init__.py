"""The libraries that `benchmarks.rivals` times: a module each, imported only in its own process.

Each has `PREPARE`, kind of task -> function from the task to what is called, and `VERSION`. What a
library has not, or what is not of its fast or natural use, it refuses with a reason.
"""
