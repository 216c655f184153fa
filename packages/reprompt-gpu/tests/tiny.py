"""MusicGen models of a few thousand random weights, made of the real classes, and a tokenizer for them."""

import math
from typing import Any

import torch
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    EncodecConfig,
    GenerationConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
)

FRAME_RATE = 50
TEXT_VOCABULARY = 64
WORDS = """
a an and the with of in on for slow fast calm warm cold bright dark soft loud gentle happy sad sweet bitter sour salty
jazz rock folk ambient piano guitar drums bass strings flute violin synth choir bells song music melody rhythm night sea
""".split()


def tiny_config(
    *,
    stereo: bool = False,
    hidden: int = 32,
    layers: int = 2,
    heads: int = 4,
    ffn: int = 64,
    text_hidden: int = 24,
    codebooks: int = 4,
    vocabulary: int = 64,
    entries: int | None = None,
    positions: int = 512,
    activation: str = "gelu",
) -> MusicgenConfig:
    """The configuration of a tiny model.

    Args:
        stereo: two channels, and twice the codebooks.
        text_hidden: of the text encoder; where it is `hidden`, the model has no projection between them.
        codebooks: of one channel.
        vocabulary: codes of a codebook that the decoder can say.
        entries: of the codec's codebooks, a power of two; None: as many.
        positions: sinusoids that are made before they are needed.
    """
    entries = entries or vocabulary
    bits = math.ceil(math.log2(entries))
    return MusicgenConfig(
        text_encoder=T5Config(
            vocab_size=TEXT_VOCABULARY, d_model=text_hidden, d_kv=8, d_ff=48, num_layers=2, num_heads=2
        ),
        audio_encoder=EncodecConfig(
            sampling_rate=8000,
            upsampling_ratios=[8, 5, 2, 2],
            target_bandwidths=[(codebooks + 0.5) * bits * FRAME_RATE / 1000],
            codebook_size=entries,
            hidden_size=16,
            num_filters=2,
            # as the codec of the real models
            use_causal_conv=False,
            use_conv_shortcut=False,
            audio_channels=1,
        ),
        decoder=MusicgenDecoderConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            ffn_dim=ffn,
            activation_function=activation,
            num_codebooks=2 * codebooks if stereo else codebooks,
            audio_channels=2 if stereo else 1,
            pad_token_id=vocabulary,
            bos_token_id=vocabulary,
            max_position_embeddings=positions,
            initializer_factor=0.2,  # of real size, the parts of a model this small would not reach its logits
        ),
    )


def tiny_model(*, seed: int = 0, **shape: Any) -> MusicgenForConditionalGeneration:
    """A model with random weights, in evaluation mode.

    Args:
        seed: of the weights; the global generator stays as it was.
        shape: as for `tiny_config`.
    """
    config = tiny_config(**shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MusicgenForConditionalGeneration(config)
        with torch.no_grad():
            for name, tensor in model.decoder.named_parameters():
                if "layer_norm" in name:  # ones and zeros would hide a norm that is left out
                    tensor.add_(0.2 * torch.randn_like(tensor))
            if hasattr(model, "enc_to_dec_proj"):  # its default of 0.02 would leave little of the text
                model.enc_to_dec_proj.weight.normal_(std=0.3)
                model.enc_to_dec_proj.bias.normal_(std=0.3)
            for name, tensor in model.audio_encoder.named_buffers():
                if name.endswith(("codebook.embed", "codebook.embed_avg")):  # zeros would make every code silent
                    tensor.normal_()
    start = config.decoder.vocab_size
    model.generation_config = GenerationConfig(
        bos_token_id=start,
        decoder_start_token_id=start,
        pad_token_id=start,
        do_sample=True,
        guidance_scale=3.0,
        max_length=1500,
    )
    return model.eval()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; other words are `<unk>`, and `</s>` ends every text as it does with T5."""
    vocabulary = {token: i for i, token in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    assert len(vocabulary) <= TEXT_VOCABULARY
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
