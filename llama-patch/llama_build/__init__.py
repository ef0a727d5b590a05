"""Builds the patched llama-server and fetches the small test model; behind `../build` and `../model`."""
