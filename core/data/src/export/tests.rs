use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    digest,
    record::Part,
    shard::{Shard, Shards},
    sources::{self, Pictures},
    webdataset::{ScanOptions, scan},
};

/// Records with the bytes of their parts.
type Items = Vec<(Record, Vec<(String, Vec<u8>)>)>;

/// A record whose image is `picture` as a PNG's first bytes and some text.
fn item(key: &str, picture: &str, captions: &[Caption], columns: Value) -> (Record, Vec<(String, Vec<u8>)>) {
    let bytes = [b"\x89PNG\r\n\x1a\n", picture.as_bytes()].concat();
    let part = Part { shard: [7; 32], path: String::new(), offset: 0, len: 1, digest: digest::of(&bytes) };
    let Value::Object(columns) = columns else { panic!("columns are an object") };
    let parts = BTreeMap::from([("png".to_owned(), part)]);
    let record = Record {
        captions: captions.to_vec(),
        size: Some([4, 3]),
        ..Record::new(key.to_owned(), [7; 32], parts, columns)
    };
    (record, vec![("png".to_owned(), bytes)])
}

fn export(mut to: impl Export + 'static, items: &Items) -> Result<(), ExportError> {
    for (record, parts) in items {
        let parts =
            parts.iter().map(|(name, bytes)| (name.as_str(), Cow::Borrowed(bytes.as_slice()))).collect();
        to.record(&Item { record, parts })?;
    }
    Box::new(to).finish()
}

/// Files below a folder, in order.
fn files(dir: &Path) -> Vec<String> {
    let paths = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(Result::unwrap);
    let paths = paths.filter(|entry| entry.file_type().is_file());
    paths.map(|entry| entry.path().strip_prefix(dir).unwrap().to_str().unwrap().replace('\\', "/")).collect()
}

fn three() -> Items {
    let captions = [Caption::new("a \"cat\", small", Some("en")), Caption::new("un gatto", Some("it"))];
    vec![
        item("cat/1.png", "one", &captions, json!({ "class": "cat", "score": 0.5, "tags": ["a", "b"] })),
        item("1.png", "two", &captions[..1], json!({ "class": "cat", "score": null })),
        item("dog/v1.5/a", "three", &captions[1..], json!({ "class": "dog/wolf", "note": "007" })),
    ]
}

#[test]
fn names_are_plain_and_unique() {
    let mut names = Names::default();
    let mut name = |key: &str| names.name(&item(key, "x", &[], json!({})).0);
    let given =
        ["a/b.png", "a/b.jpg", "A/B", "x.y/z.w", "../../etc", "/", "a:b|c", "v.JPEG", ".png"].map(&mut name);
    let expected = ["a/b", "a/b_2", "A/B_3", "x.y/z_w", "_/_/etc", "_", "a_b_c", "v", "_png"];
    assert_eq!(given, expected);
}

#[test]
fn class_folders_read_back() {
    let dir = tempfile::tempdir().unwrap();
    export(ClassFolders::new(dir.path(), "class"), &three()).unwrap();
    assert_eq!(files(dir.path()), ["cat/1.png", "cat/1_2.png", "dog_wolf/dog_v1.5_a.png"]);
    let shard = Shard::open(dir.path()).unwrap();
    let found: Vec<_> =
        sources::class_folders(shard.folder().unwrap(), shard.digest).map(Result::unwrap).collect();
    assert_eq!(found.len(), 3);
    let mut digests: Vec<_> = found.iter().map(|record| record.digest).collect();
    let mut given: Vec<_> = three().iter().map(|(record, _)| record.digest).collect();
    digests.sort_unstable();
    given.sort_unstable();
    assert_eq!(digests, given);
    let error = export(ClassFolders::new(dir.path(), "kind"), &three()).unwrap_err();
    assert_eq!(error.to_string(), "record `cat/1.png` has no column `kind`");
}

#[test]
fn coco_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    export(Coco::new(dir.path(), None), &three()).unwrap();
    let bytes = std::fs::read(dir.path().join("captions.json")).unwrap();
    let shard = Shard::open(dir.path().join("images")).unwrap();
    let pictures = Pictures::in_folder(shard.folder().unwrap(), shard.digest);
    let found: Vec<_> = sources::coco(&bytes, "c", &pictures, None).unwrap().map(Result::unwrap).collect();
    for (found, (given, _)) in found.iter().zip(three()) {
        assert_eq!((found.digest, found.size), (given.digest, given.size));
        let texts =
            |record: &Record| record.captions.iter().map(|caption| caption.text.clone()).collect::<Vec<_>>();
        assert_eq!(texts(found), texts(&given));
    }
    assert_eq!(found.len(), 3);
    let error = export(Coco::new(dir.path(), Some("en")), &three()).unwrap_err();
    assert_eq!(error.to_string(), "record `dog/v1.5/a` has no caption in `en`");
}

#[test]
fn llava_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let turns = json!([{ "from": "human", "value": "<image>\nWhat?" }, { "from": "gpt", "value": "A cat." }]);
    let items = vec![item("q-1", "one", &[], json!({ "id": "q-1", "conversations": turns, "model": "m" }))];
    export(Llava::new(dir.path()), &items).unwrap();
    let bytes = std::fs::read(dir.path().join("conversations.json")).unwrap();
    let shard = Shard::open(dir.path().join("images")).unwrap();
    let pictures = Pictures::in_folder(shard.folder().unwrap(), shard.digest);
    let found: Vec<_> = sources::llava(&bytes, "c", &pictures).unwrap().map(Result::unwrap).collect();
    assert_eq!(
        (found[0].digest, &found[0].columns, &*found[0].key),
        (items[0].0.digest, &items[0].0.columns, "q-1")
    );
    let error = export(Llava::new(dir.path()), &three()).unwrap_err();
    assert_eq!(error.to_string(), "record `cat/1.png` has no column `conversations`");
}

#[test]
fn masks_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut items = vec![item("training/1.jpg", "one", &[], json!({ "split": "training" }))];
    items[0].1.push((sources::MASK.to_owned(), b"mask".to_vec()));
    export(Masks::new(dir.path()), &items).unwrap();
    assert_eq!(files(dir.path()), ["annotations/training/1.png", "images/training/1.png"]);
    let shard = Shard::open(dir.path()).unwrap();
    let found: Vec<_> =
        sources::masks(shard.folder().unwrap(), shard.digest, "images", "annotations").collect();
    let record = found[0].as_ref().unwrap();
    let shards: Shards = [shard.clone()].into_iter().collect();
    assert_eq!(*shards.bytes(&record.parts[sources::MASK]).unwrap(), *b"mask");
    let error = export(Masks::new(dir.path()), &three()).unwrap_err();
    assert_eq!(error.to_string(), "record `cat/1.png` has no mask (part `mask.png`)");
}

#[test]
fn tables_read_back() {
    for (form, kind, name) in [
        (TableForm::Csv, sources::TableKind::Csv, "records.csv"),
        (TableForm::Tsv, sources::TableKind::Tsv, "records.tsv"),
        (TableForm::JsonLines, sources::TableKind::JsonLines, "records.jsonl"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let columns = ["class", "score", "tags", "note"].map(str::to_owned);
        export(Table::new(dir.path(), form, &columns).unwrap(), &three()).unwrap();
        let bytes = std::fs::read(dir.path().join(name)).unwrap();
        let shard = Shard::open(dir.path().join("images")).unwrap();
        let pictures = Pictures::in_folder(shard.folder().unwrap(), shard.digest);
        let found = sources::table(&bytes, kind, "t", "filepath", &pictures).unwrap();
        let found: Vec<_> = found.map(Result::unwrap).collect();
        let seen: Vec<_> =
            found.iter().map(|record| (record.digest, record.columns["title"].clone())).collect();
        let given: Vec<_> = three()
            .iter()
            .map(|(record, _)| (record.digest, Value::from(record.captions[0].text.as_str())))
            .collect();
        assert_eq!(seen, given, "{name}");
        assert_eq!(found[0].columns["score"], json!(0.5));
        assert_eq!(found[2].columns["note"], json!("007"));
    }
}

#[test]
fn clip_benchmark_has_labels_or_captions() {
    let dir = tempfile::tempdir().unwrap();
    let classes = vec!["cat".to_owned(), "dog/wolf".to_owned()];
    let task =
        Task::Classification { classes, column: "class".to_owned(), templates: vec!["a {c}".to_owned()] };
    export(ClipBenchmark::new(dir.path(), "test", task, 2), &three()).unwrap();
    assert_eq!(
        files(dir.path()),
        [
            "classnames.txt",
            "test/0.tar",
            "test/1.tar",
            "test/nshards.txt",
            "zeroshot_classification_templates.txt"
        ]
    );
    let labels = |shard: &str| -> Vec<Value> {
        let shard = Shard::open(dir.path().join(shard)).unwrap();
        let found = scan(&shard, &ScanOptions::default());
        assert!(found.skipped.is_empty());
        found.records.iter().map(|record| record.columns["cls"].clone()).collect()
    };
    assert_eq!((labels("test/0.tar"), labels("test/1.tar")), (vec![json!(0), json!(0)], vec![json!(1)]));
    let dir = tempfile::tempdir().unwrap();
    export(ClipBenchmark::new(dir.path(), "test", Task::Retrieval, 9), &three()).unwrap();
    let found = scan(&Shard::open(dir.path().join("test/0.tar")).unwrap(), &ScanOptions::default());
    assert_eq!(found.records[0].columns["txt"], json!("a \"cat\", small\nun gatto"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is written as webdataset reads back as the same records, however keys and columns look.
    #[test]
    fn webdataset_reads_back(
        rows in proptest::collection::vec(
            ("[a-z./]{1,12}", "[ -~]{0,8}", proptest::collection::vec(("\\PC{1,12}", proptest::option::of("[a-z]{2}")), 0..4)),
            1..12,
        ),
        per_shard in 1_u64..5,
    ) {
        let items: Vec<_> = rows
            .iter()
            .map(|(key, picture, captions)| {
                let captions: Vec<Caption> =
                    captions.iter().map(|(text, language)| Caption::new(text.as_str(), language.as_deref())).collect();
                item(key, picture, &captions, json!({ "note": picture, "n": key.len() }))
            })
            .collect();
        let dir = tempfile::tempdir().unwrap();
        export(WebDataset::new(dir.path(), "train", per_shard), &items).unwrap();
        let names = files(dir.path());
        prop_assert_eq!(names.len(), items.len().div_ceil(per_shard as usize));
        let mut found = Vec::new();
        for name in names {
            let scan = scan(&Shard::open(dir.path().join(name)).unwrap(), &ScanOptions::default());
            prop_assert!(scan.skipped.is_empty(), "{:?}", scan.skipped);
            found.extend(scan.records);
        }
        prop_assert_eq!(found.len(), items.len());
        for (found, (given, parts)) in found.iter().zip(&items) {
            prop_assert_eq!(found.image().unwrap().digest, digest::of(&parts[0].1));
            prop_assert_eq!(&found.captions, &given.captions);
            prop_assert_eq!(&found.columns["note"], &given.columns["note"]);
            let key = found.columns.get("key").and_then(Value::as_str).unwrap_or(&found.key);
            prop_assert_eq!(key, &given.key);
        }
    }
}
