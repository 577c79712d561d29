use arrow_buffer::Buffer;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::{
    digest,
    record::{Caption, Part, Record, SkipReason, Skipped},
    select::{Filter, Join, Select, SelectError},
    shard::Shard,
    webdataset::{ScanOptions, SplitFrom, scan},
};

/// The pack's shards with this prefix, chosen from, as a manifest.
fn pack(prefix: &str, mut select: Select) -> Result<Manifest, SelectError> {
    let names = crate::emoji::files().iter().map(|file| file.name);
    let mut rows = RowWriter::new(Footer::default());
    for name in names.filter(|name| name.ends_with(".tar") && name.starts_with(prefix)) {
        let shard = Shard::embedded(name).unwrap();
        rows.shard(ShardInfo { name: shard.name.clone(), digest: shard.digest });
        let options = ScanOptions { split_from: SplitFrom::ShardName, ..ScanOptions::default() };
        let scan = scan(&shard, &options);
        assert!(scan.skipped.is_empty());
        scan.records.into_iter().filter_map(|r| select.apply(r)).for_each(|r| rows.push(r).unwrap());
    }
    select.finish()?;
    Ok(Manifest::open(Buffer::from(rows.finish(Vec::new()).unwrap())).unwrap())
}

fn concepts() -> Join {
    Join::from_jsonl("cp", &crate::emoji::find("concepts.jsonl").unwrap().bytes().unwrap()).unwrap()
}

#[test]
fn the_pack_has_the_published_counts() {
    let all = pack("", Select::default()).unwrap();
    assert_eq!((all.len(), all.records().count(), all.footer.left.count), (8361, 8361, 0));
    for (split, count) in [
        ("train", 3482),
        ("val", 192),
        ("test-id", 500),
        ("test-novel", 356),
        ("shift-openmoji", 1229),
        ("shift-fxemoji", 492),
        ("shift-noto-v1", 881),
        ("shift-openmoji-line", 1229),
    ] {
        let of_split = all.records().filter(|r| r.as_ref().unwrap().column("split") == Some(&json!(split)));
        assert_eq!(of_split.count(), count, "{split}");
    }
}

#[test]
fn filters_lists_and_limits_combine() {
    let count = |filters, limit| pack("train", Select::new(None, filters, limit)).unwrap().len();
    let vendor = |value| vec![Filter::new("vendor", value)];
    let (noto, twemoji) = (count(vendor(json!("noto")), None), count(vendor(json!("twemoji")), None));
    assert_eq!(count(vendor(json!(["noto", "twemoji"])), None), noto + twemoji);
    assert_eq!(count(vec![Filter::new("novel", json!(true))], None), 0);
    assert_eq!(count(vendor(json!("noto")), Some(7)), 7);
}

#[test]
fn a_join_adds_columns_that_filters_see() {
    let filters = vec![Filter::new("order", json!(2))];
    let chosen = pack("train", Select::new(Some(concepts()), filters, None)).unwrap();
    assert!(!chosen.is_empty());
    for record in chosen.records() {
        let record = record.unwrap();
        assert_eq!(record.column("keywords.en").unwrap()[0], "awesome");
        assert_eq!(record.columns["cp"], "1F603");
    }
}

#[test]
fn an_unknown_column_is_an_error_that_lists_the_known_ones() {
    let filters = vec![Filter::new("vendr", json!("noto"))];
    insta::assert_snapshot!(pack("val", Select::new(None, filters, None)).unwrap_err());
}

#[test]
fn side_tables_are_checked_line_by_line() {
    let error = |table: &str| Join::from_jsonl("cp", table.as_bytes()).unwrap_err();
    assert!(matches!(error("{\"cp\":1}\n\n{"), SelectError::TableLine { line: 3, .. }));
    assert!(matches!(error("[1]"), SelectError::TableLine { line: 1, .. }));
    assert!(matches!(error("{\"x\":1}"), SelectError::NoKeyColumn { line: 1, .. }));
    assert!(matches!(error("{\"cp\":1}\n{\"cp\":1}"), SelectError::RepeatedKey { line: 2, .. }));
}

const SHARD: ShardInfo = ShardInfo { name: String::new(), digest: [7; 32] };

fn write(records: &[Record]) -> Vec<u8> {
    let mut rows = RowWriter::new(Footer::new(vec![SHARD]));
    records.iter().for_each(|record| rows.push(record.clone()).unwrap());
    rows.finish(Vec::new()).unwrap()
}

fn open(bytes: Vec<u8>) -> Manifest {
    Manifest::open(Buffer::from(bytes)).unwrap()
}

fn record(key: &str, columns: Value) -> Record {
    let part = Part {
        shard: SHARD.digest,
        path: "a/b".into(),
        offset: 1,
        len: 2,
        digest: digest::of(key.as_bytes()),
    };
    let Value::Object(columns) = columns else { unreachable!() };
    Record::new(key.into(), SHARD.digest, [("png".to_owned(), part)].into(), columns)
}

#[test]
fn what_was_left_out_and_the_settings_travel_in_the_footer() {
    let mut rows = RowWriter::new(Footer::new(vec![SHARD]));
    rows.skip(Skipped {
        shard: "val-0000.tar".into(),
        key: "k".into(),
        member: "k.json".into(),
        reason: SkipReason::InvalidJson { line: 1, column: 2, message: "why".into() },
    });
    rows.footer.settings.insert("size".into(), json!([1, 2]));
    let footer = rows.footer.clone();
    let manifest = open(rows.finish(Vec::new()).unwrap());
    assert!(manifest.is_empty() && manifest.records().next().is_none());
    assert_eq!((&manifest.footer.left, &manifest.footer.settings), (&footer.left, &footer.settings));
    assert_eq!(manifest.footer.left.count, 1);
}

#[test]
fn damage_is_an_error() {
    let bytes = write(&[record("a", json!({ "n": 1 }))]);
    assert!(matches!(Manifest::open(Buffer::from(Vec::<u8>::new())), Err(ManifestError::Format(_))));
    for end in (0..bytes.len()).step_by(7) {
        assert!(Manifest::open(Buffer::from(bytes[..end].to_vec())).is_err(), "{end}");
    }
}

#[test]
fn mixed_columns_and_names_of_fixed_columns_come_back() {
    let records = [
        record("a", json!({ "v": 1, "width": "broad", "o": { "x": [1] }, "e": {} })),
        record("b", json!({ "v": "text", "o": { "x": [1.5], "y": true } })),
        record("c", json!({ "u": u64::MAX, "late": [null, "t"] })),
    ];
    let read: Vec<Map<String, Value>> = open(write(&records)).records().map(|r| r.unwrap().columns).collect();
    assert_eq!(read[0]["v"], 1);
    assert_eq!(read[1]["v"], "text");
    assert_eq!((&read[0]["user.width"], read[0].get("width")), (&json!("broad"), None));
    assert_eq!((&read[0]["o"], &read[1]["o"]), (&json!({ "x": [1.0] }), &json!({ "x": [1.5], "y": true })));
    assert_eq!(read[0]["e"], json!({}));
    assert_eq!((&read[2]["u"], &read[2]["late"]), (&json!(u64::MAX), &json!([null, "t"])));
    assert_eq!(read[0].get("late"), None);
}

/// JSON may be nested more deeply than a schema can be.
#[test]
fn deeply_nested_columns_come_back() {
    for depth in [1, 23, 24, 25, 64, 120] {
        let lists = (0..depth).fold(json!(1), |value, _| json!([value]));
        let objects = (0..depth).fold(json!("x"), |value, _| json!({ "o": value }));
        let columns = json!({ "lists": lists, "objects": objects });
        let read = open(write(&[record("a", columns.clone())])).record(0).unwrap().columns;
        assert_eq!((&read["lists"], &read["objects"]), (&columns["lists"], &columns["objects"]), "{depth}");
    }
}

/// Eight bytes of a manifest are other ones: an error, or records; what is read is sound.
#[test]
fn damage_within_a_manifest_never_panics() {
    let columns = json!({ "n": 1, "list": ["a"], "o": { "p": [1.5] }, "yes": true });
    let bytes = write(&[record("a", columns.clone()), record("b", columns)]);
    for at in 0..bytes.len() - 8 {
        for with in [[0; 8], [0xff; 8], [0x7f; 8], 1u64.to_le_bytes(), 3u64.to_le_bytes()] {
            let mut damaged = bytes.clone();
            damaged[at..at + 8].copy_from_slice(&with);
            if let Ok(manifest) = Manifest::open(Buffer::from(damaged)) {
                manifest.records().for_each(drop);
            }
        }
    }
}

#[test]
fn records_are_found_by_index_over_many_batches() {
    let records: Vec<Record> = (0..ROWS + 3).map(|i| record(&i.to_string(), json!({ "i": i }))).collect();
    let manifest = open(write(&records));
    assert_eq!((manifest.batch_count(), manifest.len()), (2, ROWS + 3));
    for index in [0, 1, ROWS - 1, ROWS, ROWS + 2] {
        assert_eq!(manifest.record(index).unwrap().column("i"), Some(&json!(index)));
    }
    assert!(manifest.record(ROWS + 3).is_err());
}

fn any_record() -> impl Strategy<Value = Record> {
    let caption = ("[a-z\u{4e00}-\u{4e10}]{0,6}", proptest::option::of("(en|zh)"));
    let captions = proptest::collection::vec(caption, 0..3);
    let size = proptest::option::of([1u32..900, 1..900]);
    ("[a-z]{1,4}", captions, size, any::<i64>(), proptest::option::of(".{0,4}")).prop_map(
        |(key, captions, size, n, text)| {
            let columns = match text {
                Some(text) => json!({ "n": n, "list": [text.clone()], "s": { "text": text } }),
                None => json!({ "n": n }),
            };
            let captions = captions.iter().map(|(text, tag)| Caption::new(text, tag.as_deref())).collect();
            Record { captions, size, source: "src".into(), ..record(&key, columns) }
        },
    )
}

proptest! {
    #[test]
    fn records_round_trip_whatever_the_batches(records in proptest::collection::vec(any_record(), 0..20)) {
        let manifest = open(write(&records));
        let read: Vec<Record> = manifest.records().map(Result::unwrap).collect();
        let expected: Vec<Record> = records.into_iter().map(Record::with_fields).collect();
        prop_assert_eq!(&read, &expected);
        // What was read can be written again, and gives the same bytes.
        prop_assert_eq!(write(&read), write(&expected));
        // A writer that is fed in other pieces gives the same bytes as well.
        let whole: Vec<_> = manifest.batches().map(Result::unwrap).collect();
        let again = |pieces: usize| {
            let mut writer = ManifestWriter::new(Vec::new(), manifest.schema().clone(), (*manifest.footer).clone()).unwrap();
            for batch in &whole {
                for start in (0..batch.num_rows()).step_by(pieces) {
                    writer.write(batch.slice(start, pieces.min(batch.num_rows() - start))).unwrap();
                }
            }
            writer.finish().unwrap()
        };
        prop_assert_eq!(again(1), again(5));
    }
}
