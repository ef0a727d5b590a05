"""Writes a small model as safetensors with its tokenizer. Runs in the environment of vLLM, not in ours.

`convert.py NAME GGUF TARGET`: NAME is `tiny-llama` for random weights, anything else is the model in GGUF.
What is written is read by `transformers` 4 and 5 alike, so that all vLLM releases serve the same files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch  # type: ignore[import-not-found]
from transformers import (  # type: ignore[import-not-found]
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

SEED = 20240901


def real(gguf: Path) -> Any:
    """The model of the file, dequantised."""
    # without dequantize the packed weights are kept, and cannot be saved
    return AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )


def tiny() -> Any:
    """Two layers, as wide as one attention head allows, with the real vocabulary.

    The output matrix is its own, not the embedding: tied random weights repeat the last token for ever.
    Its scale makes logits with a spread of about 3, a distribution that is neither flat nor decided.
    """
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=8192,
        rope_theta=100000.0,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    # one generator over all parameters in the order of their names: independent of the library's own way
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.dim() == 2:
                scale = 0.27 if name == "lm_head.weight" else parameter.shape[1] ** -0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model.to(torch.bfloat16)


def also_for_transformers_4(target: Path) -> None:
    """Adds the older spellings of what version 5 writes in a new one."""
    config_file, tokenizer_file = target / "config.json", target / "tokenizer_config.json"
    config = json.loads(config_file.read_text())
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    config["torch_dtype"] = config["dtype"]
    config_file.write_text(json.dumps(config, indent=2))
    tokenizer = json.loads(tokenizer_file.read_text())
    tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    tokenizer["chat_template"] = (target / "chat_template.jinja").read_text()
    tokenizer_file.write_text(json.dumps(tokenizer, indent=2))


def main() -> None:
    name, gguf, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    model = tiny() if name == "tiny-llama" else real(gguf)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)
    also_for_transformers_4(target)


if __name__ == "__main__":
    main()
