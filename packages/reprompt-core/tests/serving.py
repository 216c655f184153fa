"""A third party's OpenAI-compatible server on loopback: `transformers serve` with a tiny random language model."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

DEADLINE_S = 120
POSITIONS = 8192
NEW_TOKENS = 64
END = "<|im_end|>"
SPECIAL = ("<|endoftext|>", "<|im_start|>", END)
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LISTENING = re.compile(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")


def make_tiny_model(folder: Path) -> None:
    """Writes a two-layer Llama of fixed random weights whose tokens are bytes, with its tokenizer and chat template."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token=END,
        pad_token=SPECIAL[0],
        chat_template=TEMPLATE,
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    )
    ids: dict[str, Any] = {
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        initializer_range=0.3,  # wide enough for its likings to differ, so that temperature changes what it says
        **ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    # sampling as instruction-tuned models ship it: temperature and seed have something to act on
    model.generation_config = GenerationConfig(max_new_tokens=NEW_TOKENS, do_sample=True, **ids)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def served(model: Path, log: Path) -> Iterator[str]:
    """The base URL of a server of this model alone; requests name it by str(model), the path exactly as given here."""
    foreign = ("HF_", "HUGGING", "TRANSFORMERS_", "UVICORN_", "TORCH", "PYTORCH_", "CUDA_")
    home = log.with_suffix(".home")  # not the person's: no token, no models of theirs
    (home / "hub").mkdir(parents=True, exist_ok=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)} | {
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    # port 0: the system chooses and the log tells, so that no one else can take the port in between
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model)]
    command += ["--host", "127.0.0.1", "--port", "0", "--device", "cpu"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env)
    try:
        yield _healthy(process, log) + "/v1"
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:  # it lets running generations finish first
            process.kill()
            process.wait()


def _healthy(process: subprocess.Popen[bytes], log: Path) -> str:
    """The server's address once it says that it is well; an error with the end of its log when it never does."""
    begun = time.monotonic()
    with httpx2.Client(trust_env=False, timeout=5) as client:  # a proxy of the person's is not asked for loopback
        while process.poll() is None and time.monotonic() - begun < DEADLINE_S:
            told = LISTENING.search(_text(log))
            if told:
                address = f"http://127.0.0.1:{told[1]}"
                try:
                    if client.get(f"{address}/health").status_code == 200:
                        return address
                except httpx2.TransportError:
                    pass
            time.sleep(0.1)
    ended = process.poll()
    what = f"is not healthy after {DEADLINE_S} s" if ended is None else f"ended with exit code {ended}"
    raise RuntimeError(f"transformers serve {what}; the end of {log}:\n{_text(log)[-3000:]}")


def _text(log: Path) -> str:
    return log.read_text("utf-8", errors="replace")
