"""Models as small as they load: an XLM-RoBERTa of random weights, saved as BGE-M3 and bge-reranker-v2-m3 are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SAID = [
    "ask what you can do for your country",
    "and so my fellow americans ask not what your country can do for you",
    "the family of dashwood had long been settled in sussex",
    "their estate was large and their residence was at norland park",
    "he was not an ill disposed young man",
    "日本語 の 文",
]
WIDTH = 32


def write_m3(folder: Path, *, heads: bool = True) -> Path:
    """A folder like BGE-M3's: 32 dimensions, two layers; without ``heads`` it lacks what reranks."""
    import torch
    from transformers import XLMRobertaModel

    torch.manual_seed(0)
    _tokenizer(folder)
    XLMRobertaModel(_config(), add_pooling_layer=False).save_pretrained(folder)
    if heads:
        torch.save(torch.nn.Linear(WIDTH, WIDTH).state_dict(), folder / "colbert_linear.pt")
        torch.save(torch.nn.Linear(WIDTH, 1).state_dict(), folder / "sparse_linear.pt")
    return folder


def write_cross_encoder(folder: Path) -> Path:
    """A folder like bge-reranker-v2-m3's."""
    import torch
    from transformers import XLMRobertaForSequenceClassification

    torch.manual_seed(0)
    _tokenizer(folder)
    XLMRobertaForSequenceClassification(_config(num_labels=1)).save_pretrained(folder)
    return folder


def _config(**more: Any) -> Any:
    from transformers import XLMRobertaConfig

    return XLMRobertaConfig(
        vocab_size=300,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=514 + 2,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        initializer_range=0.5,  # else all texts are one
        **more,
    )


def _tokenizer(folder: Path) -> None:
    """Trained on a few sentences, with the special tokens where XLM-RoBERTa has them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(SAID, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
