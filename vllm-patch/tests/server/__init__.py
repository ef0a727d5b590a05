"""What the server tests share: where things are, a vLLM process, a collector of proofs, requests."""
