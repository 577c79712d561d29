use std::path::Path;

use super::*;
use crate::{
    manifest::{Footer, Manifest, RowWriter, ShardInfo},
    shard::{Shard, Shards},
};

/// Pictures, and what else the names say.
fn folder(files: &[&str]) -> (tempfile::TempDir, Shard) {
    let dir = tempfile::tempdir().unwrap();
    for name in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("bytes of {name}")).unwrap();
    }
    let shard = Shard::open(dir.path()).unwrap();
    (dir, shard)
}

fn told(found: impl Iterator<Item = Found>) -> String {
    let line = |found: Found| match found {
        Ok(record) => {
            let captions: Vec<&str> = record.captions.iter().map(|caption| caption.text.as_str()).collect();
            format!("{} {} {captions:?}", record.key, serde_json::to_string(&record.columns).unwrap())
        }
        Err(skipped) => format!("- {skipped}"),
    };
    found.map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn class_folders_are_read_as_torchvision_does() {
    let (_dir, shard) =
        folder(&["dog/1.jpg", "cat/deep/2.PNG", "cat/notes.txt", "loose.png", "cat/1.webp", "empty/x.txt"]);
    insta::assert_snapshot!(told(class_folders(shard.folder().unwrap(), shard.digest)), @r#"
    cat/1.webp {"class":"cat","label":0} []
    cat/deep/2.PNG {"class":"cat","label":0} []
    dog/1.jpg {"class":"dog","label":1} []
    "#);
}

#[test]
fn bytes_are_found_again_through_the_manifest() {
    let (_dir, shard) = folder(&["a/1.jpg", "b/2.png"]);
    let mut rows = RowWriter::new(Footer::new(vec![ShardInfo { name: FOLDER.into(), digest: shard.digest }]));
    class_folders(shard.folder().unwrap(), shard.digest).for_each(|found| rows.push(found.unwrap()).unwrap());
    let manifest = Manifest::open(arrow_buffer::Buffer::from(rows.finish(Vec::new()).unwrap())).unwrap();
    let shards: Shards = [shard].into_iter().collect();
    let record = manifest.record(1).unwrap();
    assert_eq!(*shards.bytes(record.image().unwrap()).unwrap(), *b"bytes of b/2.png");
}

const COCO: &str = r#"{"info": {}, "licenses": [], "images": [
  {"id": 7, "file_name": "000000000007.jpg", "width": 640, "height": 480},
  {"id": 8, "file_name": "gone.jpg", "width": 1, "height": 1},
  {"id": 9, "file_name": "../out.jpg"},
  {"id": 10, "file_name": "mute.jpg"}
], "annotations": [
  {"id": 31, "image_id": 7, "caption": "A \"second\" caption. "},
  {"id": 30, "image_id": 7, "caption": "The first."},
  {"id": 32, "image_id": 8, "caption": "x"}, {"id": 33, "image_id": 9, "caption": "x"}, {"id": 34, "image_id": 99, "caption": "x"}
]}"#;

#[test]
fn coco_captions_come_in_the_order_of_their_ids() {
    let (_dir, shard) = folder(&["000000000007.jpg", "mute.jpg"]);
    let pictures = Pictures::in_folder(shard.folder().unwrap(), shard.digest);
    let found = coco(COCO.as_bytes(), "captions.json", &pictures, Some("en")).unwrap();
    insta::assert_snapshot!(told(found), @r#"
    - captions.json: captions.json: a caption is of image 99, which is not among the images
    000000000007.jpg {"image_id":7} ["The first.", "A \"second\" caption."]
    - captions.json: gone.jpg: there is no such file
    - captions.json: ../out.jpg: the name is absolute or contains `..`
    - captions.json: mute.jpg: the image has no caption
    "#);
    let error = coco(b"{\"images\": [],\n \"annotations\": 3}", "x", &pictures, None).err().unwrap();
    assert_eq!((error.line, error.to_string().contains("invalid type")), (2, true));
}

#[test]
fn tables_have_a_picture_a_row() {
    let (_dir, shard) = folder(&["a.jpg", "b.png"]);
    let pictures = Pictures::in_folder(shard.folder().unwrap(), shard.digest);
    let read = |kind, text: &str| match table(text.as_bytes(), kind, "t", "filepath", &pictures) {
        Ok(found) => told(found),
        Err(error) => format!("error: {error}"),
    };
    insta::assert_snapshot!(read(TableKind::Csv, "filepath,title,score,code\na.jpg,\"a, b\",0.5,007\nc.jpg,x,,\nb.png\n"), @r#"
    a.jpg {"title":"a, b","score":0.5,"code":"007"} []
    - t: c.jpg: there is no such file
    - t: t: row at line 4: CSV error: record 3 (line: 4, byte: 57): found record with 1 fields, but the previous record has 4 fields
    "#);
    insta::assert_snapshot!(read(TableKind::Tsv, "title\tfilepath\nsay \"cat\"\t./a.jpg\n"), @r#"a.jpg {"title":"say \"cat\""} []"#);
    insta::assert_snapshot!(read(TableKind::JsonLines, "{\"filepath\": \"b.png\", \"tags\": [1]}\n\n{\"x\": 1}\n{\n"), @r#"
    b.png {"tags":[1]} []
    - t: t: a row has no path in column `filepath`
    - t: t: invalid JSON at line 4, column 1: EOF while parsing an object at line 1 column 1
    "#);
    insta::assert_snapshot!(read(TableKind::Csv, "path,title\na.jpg,x\n"), @"error: there is no column `filepath`; there are path, title");
    assert_eq!(TableKind::of("x/y.TSV"), Some(TableKind::Tsv));
    assert_eq!(TableKind::of(Path::new("x.parquet").to_str().unwrap()), None);
}

const LLAVA: &str = r#"[
  {"id": "a", "image": "a.jpg", "conversations": [
    {"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cat."}]},
  {"id": 7, "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]},
  {"id": "b", "image": "gone.jpg", "conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]},
  {"id": "c", "image": "a.jpg", "conversations": [{"from": "gpt", "value": "x"}]},
  {"id": "d", "image": "a.jpg", "conversations": []},
  {"id": "e", "image": ["a.jpg"], "conversations": [{"from": "human", "value": "x"}]},
  {"image": "a.jpg", "model": "m", "conversations": [{"from": "human", "value": 3}]}
]"#;

#[test]
fn llava_entries_without_a_picture_are_passed_over_and_wrong_ones_named() {
    let (_dir, shard) = folder(&["a.jpg"]);
    let pictures = Pictures::in_folder(shard.folder().unwrap(), shard.digest);
    insta::assert_snapshot!(told(llava(LLAVA.as_bytes(), "chat.json", &pictures).unwrap()), @r#"
    a {"id":"a","conversations":[{"from":"human","value":"<image>\nWhat is it?"},{"from":"gpt","value":"A cat."}]} []
    - chat.json: gone.jpg: there is no such file
    - chat.json: c: entry 3 (from 0): turn 1 is of `gpt` and not of `human`
    - chat.json: d: entry 4 (from 0): `conversations` is empty
    - chat.json: e: entry 5 (from 0): `image` is not a path
    - chat.json: 6: entry 6 (from 0): turn 1 has no text under `value`
    "#);
    let error = llava(b"[\n{\"id\": }]", "x", &pictures).err().unwrap();
    assert_eq!(error.line, 2);
}

#[test]
fn masks_go_with_the_images_of_their_paths() {
    let (_dir, shard) = folder(&[
        "images/training/1.jpg",
        "images/training/2.jpg",
        "images/validation/1.png",
        "images/read.me",
        "annotations/training/1.png",
        "annotations/training/2.jpg",
        "annotations/validation/1.png",
        "annotations/validation/9.png",
        "imagesque/1.jpg",
    ]);
    let found: Vec<Found> = masks(shard.folder().unwrap(), shard.digest, "images", "annotations").collect();
    let first = found[0].as_ref().unwrap();
    assert_eq!(first.parts.keys().collect::<Vec<_>>(), ["jpg", MASK]);
    assert_eq!(first.image().unwrap().path, "images/training/1.jpg");
    assert_eq!(first.parts[MASK].path, "annotations/training/1.png");
    insta::assert_snapshot!(told(found.into_iter()), @r#"
    training/1.jpg {"split":"training"} []
    - folder: images/training/2.jpg: there is no mask (a PNG of the same path) for the image
    validation/1.png {"split":"validation"} []
    "#);
}

#[test]
fn pictures_may_lie_in_shards() {
    let mut tar = tar::Builder::new(Vec::new());
    for name in ["train2017/1.JPG", "train2017/1.json", "b.png"] {
        let mut header = tar::Header::new_ustar();
        header.set_size(2);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &b"{}"[..]).unwrap();
    }
    let shard = Shard::from_bytes("p.tar", std::sync::Arc::new(tar.into_inner().unwrap()));
    let pictures = Pictures::in_shards(&[shard]);
    let rows = "filepath\ntrain2017/1.JPG\nb.png\nb.jpg\ntrain2017/1.json\n";
    insta::assert_snapshot!(told(table(rows.as_bytes(), TableKind::Csv, "t", "filepath", &pictures).unwrap()), @r#"
    train2017/1.JPG {} []
    b.png {} []
    - t: b.jpg: there is no such file
    - t: train2017/1.json: the record has no image (png, jpg, jpeg, webp or gif)
    "#);
}
