#!/usr/bin/env python3
"""Writes `files/` with the formats' own tools, and `expected.json` with what their own readers find there.

    pip install -r requirements.txt
    python3 make.py

Pictures are six emoji of the embedded pack's twemoji style (CC-BY-4.0). The tests of `tests/formats.rs` read `files/`
and compare with `expected.json`; neither needs Python.
"""
import functools, http.server, io, json, os, shutil, subprocess, sys, tarfile, threading
from pathlib import Path

import blake3
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset as wds
from clip_benchmark.webdataset_builder import convert_dataset, convert_retrieval_dataset, path_to_bytes
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import ImageFolder

HERE = Path(__file__).parent
OUT = HERE / "files"
PACK = HERE / "../../core/data/assets/emoji/train-0000.tar.gz"
expected = {}
sha = lambda data: blake3.blake3(data).hexdigest()


def pictures():
    with tarfile.open(PACK) as tar:
        names = sorted(n for n in tar.getnames() if n.endswith("_twemoji.png"))[::45][:6]
        for name in names:
            meta = json.load(tar.extractfile(name[:-4] + ".json"))
            yield name, tar.extractfile(name).read(), meta


PICTURES = list(pictures())
shutil.rmtree(OUT, ignore_errors=True)
OUT.mkdir()

# webdataset: ShardWriter, read back by WebDataset.
(OUT / "webdataset").mkdir()
with wds.ShardWriter(str(OUT / "webdataset/pairs-%06d.tar"), maxcount=4, verbose=0) as sink:
    for name, png, meta in PICTURES:
        sink.write({"__key__": name[:-4], "png": png, "json": meta, "txt": meta["en"] + ", \u201cquoted\u201d"})
(OUT / "webdataset/shards.txt").write_text("# a list of shards\npairs-000001.tar\n\npairs-000000.tar\n")
urls = sorted(str(p) for p in (OUT / "webdataset").glob("*.tar"))
expected["webdataset"] = [
    {"key": s["__key__"], "image": sha(s["png"]), "caption": s["txt"].decode(), "en": json.loads(s["json"])["en"]}
    for s in wds.WebDataset(urls, shardshuffle=False)
]

# torchvision: ImageFolder's own listing.
folder = OUT / "class-folders"
for name, png, meta in PICTURES:
    (folder / meta["group"]).mkdir(parents=True, exist_ok=True)
    (folder / meta["group"] / name).write_bytes(png)
(folder / "loose.png").write_bytes(PICTURES[0][1])
(folder / "People & Body").mkdir(exist_ok=True)
(folder / "People & Body" / "notes.txt").write_text("no picture")
reference = ImageFolder(str(folder), allow_empty=True)
names = [c for c in reference.classes if any(s[1] == reference.class_to_idx[c] for s in reference.samples)]
expected["class-folders"] = [
    {"key": str(Path(p).relative_to(folder)), "class": reference.classes[l], "image": sha(Path(p).read_bytes())}
    for p, l in reference.samples
]
expected["classes"] = names

# COCO captions, as pycocotools reads them.
images = OUT / "images"
images.mkdir()
coco = {"info": {"description": "emoji"}, "licenses": [], "images": [], "annotations": []}
for place, (name, png, meta) in enumerate(PICTURES):
    (images / name).write_bytes(png)
    width, height = Image.open(io.BytesIO(png)).size
    coco["images"].append({"id": place + 10, "file_name": name, "width": width, "height": height, "license": 1})
    for number, text in enumerate([f"a picture of {meta['en']} ", meta["en"]]):
        coco["annotations"].append({"id": 100 - 2 * place + number, "image_id": place + 10, "caption": text})
(OUT / "captions.json").write_text(json.dumps(coco))
api = COCO(str(OUT / "captions.json"))
expected["coco"] = [
    {"image_id": i, "key": api.loadImgs([i])[0]["file_name"],
     "captions": [a["caption"].strip() for a in sorted(api.loadAnns(api.getAnnIds(imgIds=[i])), key=lambda a: a["id"])]}
    for i in sorted(api.getImgIds())
]

# Tables: pandas writes and reads them; pyarrow the parquet file.
table = pd.DataFrame({
    "filepath": [n for n, _, _ in PICTURES],
    "title": [m["en"] + ', "said" she\u2026' for _, _, m in PICTURES],
    "score": [0.25 * i for i in range(6)],
    "rank": range(6),
    "note": ["x", None, "y, z", None, "", "007"],
})
table.to_csv(OUT / "pairs.csv", index=False)
table.to_csv(OUT / "pairs.tsv", index=False, sep="\t", quoting=3, escapechar="\\", quotechar="\x00")
table.to_json(OUT / "pairs.jsonl", orient="records", lines=True)
for kind, codec in [("snappy", "snappy"), ("zstd", "zstd"), ("gzip", "gzip")]:
    pq.write_table(pa.Table.from_pandas(table), OUT / f"pairs-{kind}.parquet", compression=codec, row_group_size=4)
back = pd.read_csv(OUT / "pairs.csv")
expected["table"] = json.loads(back[["filepath", "title", "score", "rank"]].to_json(orient="records"))

# clip-benchmark: its own converter.
class Labelled:
    classes = ["sad face", "happy face"]
    templates = ["a photo of a {c}.", "{c}"]
    def __init__(self, texts): self.texts = texts
    def __len__(self): return 4
    def __getitem__(self, i):
        if i >= 4: raise IndexError
        path = str(images / PICTURES[i][0])
        return path, ([PICTURES[i][2]["en"], PICTURES[i][2]["it"]] if self.texts else i % 2)
convert_dataset(Labelled(False), "test", str(OUT / "clip-benchmark/classes"), transform=path_to_bytes, verbose=False)
convert_retrieval_dataset(Labelled(True), "test", str(OUT / "clip-benchmark/retrieval"), transform=path_to_bytes, verbose=False)
expected["clip-benchmark"] = [
    {"image": sha(PICTURES[i][1]), "label": i % 2, "class": Labelled.classes[i % 2],
     "captions": Labelled(True)[i][1]} for i in range(4)
]

# img2dataset: downloads from a server of this process; one picture is not there.
server = http.server.ThreadingHTTPServer(
    ("127.0.0.1", 18431), functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(images)))
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{server.server_address[1]}/"
urls = pd.DataFrame({"url": [base + n for n, _, _ in PICTURES] + [base + "gone.png"],
                     "caption": [m["en"] for _, _, m in PICTURES] + ["gone"], "punsafe": [0.125] * 7})
urls.to_parquet(OUT / "urls.parquet")
for form in ["webdataset", "parquet"]:
    subprocess.run([Path(sys.executable).with_name("img2dataset"), "--url_list", OUT / "urls.parquet", "--input_format", "parquet",
        "--url_col", "url", "--caption_col", "caption", "--output_format", form, "--output_folder", OUT / f"img2dataset-{form}",
        "--processes_count", "1", "--thread_count", "2", "--image_size", "32", "--encode_format", "png",
        "--encode_quality", "9", "--save_additional_columns", '["punsafe"]', "--retries", "0"], check=True)
server.shutdown()
(OUT / "urls.parquet").unlink()
tar = [s for s in wds.WebDataset(str(OUT / "img2dataset-webdataset/00000.tar"), shardshuffle=False)]
rows = {r["key"]: r for r in pq.read_table(OUT / "img2dataset-webdataset/00000.parquet").to_pylist()}
expected["img2dataset"] = [
    {"key": s["__key__"], "image": sha(s["png"]), "caption": s["txt"].decode(), "punsafe": rows[s["__key__"]]["punsafe"],
     "original_width": rows[s["__key__"]]["original_width"]} for s in tar
]
expected["img2dataset-parquet"] = [
    {"key": r["key"], "image": sha(r["png"]), "caption": r["caption"]}
    for r in pq.read_table(OUT / "img2dataset-parquet/00000.parquet").to_pylist() if r["status"] == "success"
]
for rest in OUT.glob("img2dataset-*/*_stats.json"):
    rest.unlink()
for rest in OUT.rglob("_tmp"):
    shutil.rmtree(rest)

(HERE / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")
