"""What Python's tokenizers and sentencepiece make of texts with LLaMA's vocabulary; called by llama-tokenizer.sh.

usage: python llama_tokenizer.py llama-tokenizer.js FOLDER     writes tokenizer.json, tokenizer.model and expected.json

The script holds vocabulary and merges of the tokenizer.json that came with LLaMA's weights; what stands around them there is written here. The
SentencePiece model is made of both: a piece's score is the negative place of the first merge that makes it,
and pieces of nothing but spaces share the lowest one."""

import base64
import json
import pathlib
import re
import struct
import sys

import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2 as pb
from tokenizers import Tokenizer

source, folder = sys.argv[1], pathlib.Path(sys.argv[2])
TEXTS = [
    "summarize:a photo of a red panda",
    "English caption:",
    "A chat between a curious user and an artificial intelligence assistant. USER:",
    "USER: <image>\nWhat is it? ASSISTANT:",
    "Answer the question using a single word or phrase.",
    "", " ", "  ", "a", " a", "a ", "  a  b   c    d ", "\n", "\n\n", "\t\ttabs\t", "line\r\nline",
    "1234567890", "3.14159e-10", "0x7fff", "$1,299.99", "50% off!!!", "a_b_c", "camelCaseWord", "SHOUTING",
    "fn main() { println!(\"hi\"); }", "<div class=\"x\">y</div>", "https://example.org/a?b=c&d=e#f", "me@example.org",
    "一张熊猫的照片", "图中有猫、狗和汽车。", "中文 and English 混合", "猫の絵文字", "ひらがなカタカナ漢字", "한국어 문장입니다",
    "صورة قطة صغيرة", "قطة و كلب", "תמונה של חתול", "фотография красной панды", "εικόνα μιας γάτας", "รูปแมว", "ảnh con mèo",
    "un'immagine con gatto, cane e gufo", "Straße, ẞ, é, e\u0301, ñ, Å", "🐼", "👩‍👩‍👧‍👦 family", "🇮🇹🏳️‍🌈", "\u200b\u200d\ufeff", "½ ² ﬁ Ⅷ ①",
    "▁ the letter itself", "supercalifragilisticexpialidocious", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "x" * 300,
    "The quick brown fox jumps over the lazy dog. " * 10, "\x00\x01\x7f", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𓀀",
]

script = pathlib.Path(source).read_text()


def packed(name):
    return base64.b64decode(re.search(name + r"\s*=\s*[\"'`]([A-Za-z0-9+/=]+)", script)[1])


pieces = packed("llama_vocab_base64").decode().split("\n")
vocab = {piece: place for place, piece in enumerate(pieces)}
pairs = struct.iter_unpack("<HH", packed("llama_merges_binary"))
special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
published = {
    "version": "1.0",
    "added_tokens": [{"id": id, "content": pieces[id], **special} for id in range(3)],
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    },
    "decoder": {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    },
    "model": {
        "type": "BPE",
        "unk_token": "<unk>",
        "fuse_unk": True,
        "byte_fallback": True,
        "vocab": vocab,
        "merges": [[pieces[left], pieces[right]] for left, right in pairs],
    },
}
(folder / "tokenizer.json").write_text(json.dumps(published))

scores = {}
for left, right in published["model"]["merges"]:
    scores.setdefault(left + right, -1e6 if set(left + right) == {"▁"} else -float(len(scores)))
model = pb.ModelProto()
for text, place in sorted(vocab.items(), key=lambda item: item[1]):
    piece = model.pieces.add(piece=text, score=0.0)
    if place == 0:
        piece.type = piece.UNKNOWN
    elif place < 3:
        piece.type = piece.CONTROL
    elif place < 259:
        piece.type = piece.BYTE
    else:
        piece.score = scores.get(text, -float(len(scores)))
model.trainer_spec.model_type = model.trainer_spec.BPE
model.trainer_spec.byte_fallback = True
model.normalizer_spec.name = "identity"
model.normalizer_spec.remove_extra_whitespaces = False
proto = model.SerializeToString()
(folder / "tokenizer.model").write_bytes(proto)

fast, slow = Tokenizer.from_file(str(folder / "tokenizer.json")), spm.SentencePieceProcessor(model_proto=proto)
rows = []
for text in TEXTS:
    json_ids, model_ids = fast.encode(text, add_special_tokens=False).ids, slow.encode(text)
    rows.append(
        {
            "text": text,
            "tokenizers": json_ids,
            "tokenizers-decoded": fast.decode(json_ids),
            "sentencepiece": model_ids,
            "sentencepiece-decoded": slow.decode(model_ids),
        }
    )
(folder / "expected.json").write_text(json.dumps(rows))
