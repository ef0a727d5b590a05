"""The contract with vLLM: which names the plugin relies on, and which releases have them."""
