"""The test environment of the vLLM plugin: a stock vLLM for CPUs and small models for it, in the cache."""
