"""What the cut saves, in one run, as ratios: stages on a frozen InternViT with and without it, and an ablation of a filter.

    python benches/frozen.py HEDDLE [STEPS]

Works in a temporary folder with random weights of the shapes named below: time does not depend on what a model has learnt. Times are
those of the node in the run's record, without starting and reading the experiment.
"""

import json
import sys

from lab import REPOSITORY, lab

STEPS = int(sys.argv[2]) if len(sys.argv) > 2 else 55

EXPERIMENT = f"""
schema = 1
[params]
image-size = 32
patch = 8
width = WIDTH
depth = DEPTH
heads = 4
mlp-width = MLP
text-width = 128
text-depth = 3
text-heads = 4
text-mlp-width = 344
text-length = 24
vocab = 2048
queries = 8
cross-every = 1
embed = 128
pool-heads = 4
kept = "auto"

[nodes.all]
kind = "data.webdataset"
shards = "embedded:emoji/train-*.tar"
image = {{ size = 32 }}

[nodes.pairs]
kind = "data.where"
in = "all"
expression = "size(en) > 12"

[nodes.most]
kind = "data.where"
in = "all"
expression = "size(en) > 3"

[nodes.bpe]
kind = "text.bpe"
in = "all"
vocab = 2048

[nodes.base]
kind = "train"
graph = "{REPOSITORY}/graphs/internvl-c.toml"
in = {{ records = "all", tokenizer = "bpe" }}
loss = {{ itc = 1.0 }}
steps = 1
batch = 8

[nodes.stage]
kind = "train"
graph = {{ file = "{REPOSITORY}/graphs/internvl-g.toml", nodes = {{ vit = {{ cache = "${{params.kept}}" }} }} }}
in = {{ records = "pairs", tokenizer = "bpe" }}
weights = {{ vit = "base", pool = "base", qllama = "base/text", itc = "base" }}
train = TRAIN
loss = LOSS
steps = {STEPS}
batch = 64
log-every = 1000

[nodes.embed]
kind = "features"
graph = "{REPOSITORY}/graphs/internvl-c.toml"
weights = "base"
in = "most"
"""


def stage(name, width, depth, mlp, losses):
    # A loss that is not asked for has nothing to learn from.
    heads = ["itm"] if "itm" in losses else []
    words = {
        "WIDTH": str(width),
        "DEPTH": str(depth),
        "MLP": str(mlp),
        "LOSS": "{ " + ", ".join(f"{loss} = 1.0" for loss in losses) + " }",
        "TRAIN": json.dumps(["qllama.queries", "qllama.*.cross_attn", "pool2", "itc", *heads]),
    }
    with lab(EXPERIMENT, words) as bench:
        cold = bench.run("stage")
        warm = min(bench.run("stage", "--force", "stage")["seconds"] for _ in range(2))
        without = min(bench.run("stage", "--force", "stage", "-S", "params.kept=never")["seconds"] for _ in range(2))
        print(
            f"{name}: an epoch of {STEPS} steps without the cut {without:.2f} s, with it {warm:.2f} s: {without / warm:.2f} x; "
            f"the first, which fills the cache, {cold['seconds']:.2f} s",
            flush=True,
        )
        full = bench.run("embed")
        for expression in ["size(en) > 1 && size(en) != 3", "size(en) > 2"]:
            laxer = bench.run("embed", "-S", f"nodes.most.expression={expression}")
            (counts,) = laxer["rows"].values()
            print(
                f"{name}: features of {sum(counts.values())} records after the filter changed, {counts['new']} of them new: "
                f"{laxer['seconds']:.3f} s against {full['seconds']:.2f} s for all: {full['seconds'] / laxer['seconds']:.1f} x",
                flush=True,
            )


stage("three-stages' sizes, ITC + ITM + ITG", 96, 4, 384, ["itc", "itm", "itg"])
stage("a larger tower (width 384, depth 12), ITC", 384, 12, 1536, ["itc"])
