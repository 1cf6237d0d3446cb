"""A Whisper model of one layer with random weights: hears nothing, but goes every way that a real one goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

WIDTH, MELS, FRAMES, POSITIONS = 64, 80, 1500, 448
WORDS = ["Ġhe", "Ġwas", "Ġnot", "Ġan", "Ġill", "Ġyoung", "Ġman", ".", "Ġand", "Ġoh"]
SPECIAL = ["endoftext", "startoftranscript", "en", "translate", "transcribe", "startoflm", "startofprev", "nospeech"]
SPECIAL += ["notimestamps", *(f"{step * 0.02:.2f}" for step in range(FRAMES + 1))]
TOKENS = WORDS + [f"<|{name}|>" for name in SPECIAL]


def write_model(folder: Path) -> Path:
    """Write an English-only model as faster-whisper loads it; 1.7 MB, the same every time."""
    from ctranslate2.specs.whisper_spec import WhisperSpec

    spec = WhisperSpec(1, 1, 1, 1)
    _fill(spec, np.random.default_rng(0))
    spec.register_vocabulary(list(TOKENS))
    spec.config.suppress_ids = spec.config.suppress_ids_begin = []
    spec.config.lang_ids = [TOKENS.index("<|en|>")]
    spec.config.alignment_heads = [(0, 0)]
    spec.validate()
    spec.optimize()
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    _write_tokenizer(folder / "tokenizer.json")
    return folder


def _fill(spec, random):
    def weights(*shape):
        return random.normal(0, 0.3, shape).astype("float32")

    def norm(layer):
        layer.gamma, layer.beta = np.ones(WIDTH, "float32"), np.zeros(WIDTH, "float32")

    def linear(layer, size, depth=WIDTH):
        layer.weight, layer.bias = weights(size, depth), weights(size)

    def attention(layer, *sizes):
        norm(layer.layer_norm)
        for part, size in zip(layer.linear, sizes, strict=True):
            linear(part, size * WIDTH)

    def feed_forward(layer):
        norm(layer.layer_norm)
        linear(layer.linear_0, 4 * WIDTH)
        linear(layer.linear_1, WIDTH, 4 * WIDTH)

    encoder, decoder = spec.encoder, spec.decoder
    encoder.conv1.weight, encoder.conv1.bias = weights(WIDTH, MELS, 3), weights(WIDTH)
    encoder.conv2.weight, encoder.conv2.bias = weights(WIDTH, WIDTH, 3), weights(WIDTH)
    encoder.position_encodings.encodings = weights(FRAMES, WIDTH)
    decoder.position_encodings.encodings = weights(POSITIONS, WIDTH)
    decoder.embeddings.weight = decoder.projection.weight = weights(len(TOKENS), WIDTH)
    for part in (encoder, decoder):
        norm(part.layer_norm)
        attention(part.layer[0].self_attention, 3, 1)
        feed_forward(part.layer[0].ffn)
    attention(decoder.layer[0].attention, 1, 2, 1)


def _write_tokenizer(path):
    from tokenizers import AddedToken, Tokenizer, decoders, models

    words = {token: place for place, token in enumerate(WORDS)}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[], unk_token=WORDS[-1]))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in TOKENS[len(WORDS) :]])
    tokenizer.save(str(path))
