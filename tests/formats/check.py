#!/usr/bin/env python3
"""Opens what `heddle data export` and `heddle export` write with the tools that the forms are of, and compares with the records and weights.

    pip install -r requirements.txt
    python3 check.py path/to/heddle

A tool that is not installed is left out, and said so.
"""
import importlib, io, json, subprocess, sys, tempfile
from pathlib import Path

HEDDLE = Path(sys.argv[1]).resolve()
HERE = Path(__file__).parent.resolve()
EXPERIMENT = f"""
schema = 1
[nodes.pairs]
kind = "data.webdataset"
shards = "embedded:emoji/val-*.tar"
captions = {{ en = "en", it = "it" }}
limit = 100
[nodes.folders]
kind = "data.class-folders"
folder = {json.dumps(str(HERE / "files/class-folders"))}
"""


def run(*arguments):
    return subprocess.run([HEDDLE, *arguments], check=True, cwd=DIR, capture_output=True, text=True).stdout


def export(form, node="pairs", *more):
    run("data", "export", "x.toml", node, "--format", form, "-o", form, *more)
    return DIR / form


def webdataset():
    import webdataset as wds

    shards = sorted(str(path) for path in export("webdataset", "pairs", "--shard-size", "40").glob("*.tar"))
    assert len(shards) == 3, shards
    found = list(wds.WebDataset(shards, shardshuffle=False).decode("pil"))
    assert [sample["__key__"] for sample in found] == [record["key"] for record in RECORDS]
    for sample, record in zip(found, RECORDS):
        assert sample["txt"] == record["captions"][0]["text"] and sample["json"]["captions"] == record["captions"]
        assert sample["png"].size == (64, 64)


def pyarrow():
    import pyarrow.parquet as pq
    from PIL import Image

    for form in ["parquet", "img2dataset"]:
        folder = export(form, "pairs", "--shard-size", "60")
        rows = [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
        assert [row["caption"] for row in rows] == [record["captions"][0]["text"] for record in RECORDS]
        assert rows[7]["captions"] == RECORDS[7]["captions"], (rows[7]["captions"], RECORDS[7]["captions"])
        if form == "parquet":
            assert all(Image.open(io.BytesIO(row["image"])).size == (64, 64) for row in rows)
        else:
            assert [row["key"] for row in rows][59:61] == ["000000059", "000010000"]
    run("run", "x.toml", "pairs", "--quiet")
    import pyarrow.ipc as ipc

    artifact = next((DIR / ".heddle/runs").glob("*/artifacts/pairs.records.arrow"))
    assert ipc.open_file(artifact).read_all().num_rows == len(RECORDS)


def pycocotools():
    from pycocotools.coco import COCO

    folder = export("coco", "pairs", "--language", "en")
    api = COCO(str(folder / "captions.json"))
    images = api.loadImgs(sorted(api.getImgIds()))
    for image, record in zip(images, RECORDS):
        assert (image["width"], image["height"]) == (64, 64) and (folder / "images" / image["file_name"]).exists()
        captions = [one["caption"] for one in api.loadAnns(api.getAnnIds(imgIds=[image["id"]]))]
        assert captions == [one["text"] for one in record["captions"] if one["language"] == "en"]
    assert len(images) == len(RECORDS)


def torchvision():
    from torchvision.datasets import ImageFolder

    folder = ImageFolder(str(export("class-folders", "folders")))
    records = [json.loads(line) for line in run("data", "show", "x.toml", "folders", "--json").splitlines()]
    assert [(folder.classes[label]) for _, label in folder.samples] == [record["class"] for record in records]
    assert all(picture.size == (64, 64) for picture, _ in folder)


def clip_benchmark():
    from clip_benchmark.datasets.builder import build_dataset

    export("clip-classification", "folders")
    data = build_dataset("wds/folders", root=str(DIR / "clip-classification"), transform=None, split="test", task="zeroshot_classification")
    records = [json.loads(line) for line in run("data", "show", "x.toml", "folders", "--json").splitlines()]
    labels = [data.classes[label] for _, label in data]
    assert labels == [record["class"] for record in records], labels


def safetensors():
    import numpy
    from safetensors.numpy import load_file

    for name in ["experiments/tiny.toml", "graphs/tiny.toml"]:
        (DIR / name).parent.mkdir(exist_ok=True)
        (DIR / name).write_text((HERE.parent / name).read_text())
    run("run", "experiments/tiny.toml", "stage1", "--quiet")
    trained = load_file(next((DIR / "experiments/.heddle/runs").glob("*/artifacts/stage1.weights.safetensors")))
    for name, size in [("whole", []), ("shards", ["--shard-size", "12000"])]:
        run("export", "experiments/tiny.toml", name, "--format", "huggingface", *size)
        found = {key: value for file in sorted((DIR / name).glob("*.safetensors")) for key, value in load_file(file).items()}
        assert found.keys() == trained.keys()
        assert all(numpy.array_equal(found[key], trained[key]) for key in trained)
        index = DIR / name / "model.safetensors.index.json"
        if size:
            shards = json.loads(index.read_text())["weight_map"]
            assert all(key in load_file(DIR / name / shard) for key, shard in shards.items()) and shards.keys() == trained.keys()
        else:
            assert not index.exists()


with tempfile.TemporaryDirectory() as folder:
    DIR = Path(folder)
    (DIR / "x.toml").write_text(EXPERIMENT)
    RECORDS = [json.loads(line) for line in run("data", "show", "x.toml", "pairs", "--json").splitlines()]
    assert len(RECORDS) == 100
    for check in [webdataset, pyarrow, pycocotools, torchvision, clip_benchmark, safetensors]:
        try:
            importlib.import_module(check.__name__)
        except ImportError as missing:
            print(f"LEFT OUT: {check.__name__} ({missing})")
            continue
        check()
        print(f"{check.__name__}: reads what is written")
