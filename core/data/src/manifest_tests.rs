use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{
    record::SkipReason,
    select::{Filter, Join, Select, SelectError},
    webdataset::SplitFrom,
};

fn pack(prefix: &str) -> Manifest {
    let names = crate::emoji::files().iter().map(|file| file.name);
    let tars = names.filter(|name| name.ends_with(".tar") && name.starts_with(prefix));
    let shards: Vec<Shard> = tars.map(|name| Shard::embedded(name).unwrap()).collect();
    Manifest::scan(&shards, &ScanOptions { split_from: SplitFrom::ShardName, ..ScanOptions::default() })
}

fn concepts() -> Join {
    Join::from_jsonl("cp", &crate::emoji::find("concepts.jsonl").unwrap().bytes().unwrap()).unwrap()
}

#[test]
fn the_pack_has_the_published_counts() {
    let all = pack("");
    assert_eq!((all.records.len(), all.skipped.len()), (8361, 0));
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
        let filters = vec![Filter::new("split", json!(split))];
        let chosen = all.select(&Select { filters, ..Select::default() }).unwrap();
        assert_eq!(chosen.records.len(), count, "{split}");
    }
}

#[test]
fn filters_lists_and_limits_combine() {
    let train = pack("train");
    let count = |filters, limit| train.select(&Select { filters, limit, join: None }).unwrap().records.len();
    let vendor = |value| vec![Filter::new("vendor", value)];
    let (noto, twemoji) = (count(vendor(json!("noto")), None), count(vendor(json!("twemoji")), None));
    assert_eq!(count(vendor(json!(["noto", "twemoji"])), None), noto + twemoji);
    assert_eq!(count(vec![Filter::new("novel", json!(false))], None), 3482);
    assert_eq!(count(vec![Filter::new("novel", json!(true))], None), 0);
    assert_eq!(count(vendor(json!("noto")), Some(7)), 7);
}

#[test]
fn a_join_adds_columns_that_filters_see() {
    let join = Some(concepts());
    let filters = vec![Filter::new("order", json!(2))];
    let chosen = pack("train").select(&Select { join, filters, limit: None }).unwrap();
    assert!(!chosen.records.is_empty());
    for record in &chosen.records {
        assert_eq!(record.column("keywords.en").unwrap()[0], "awesome");
        assert_eq!(record.columns["cp"], "1F603");
    }
}

#[test]
fn an_unknown_column_is_an_error_that_lists_the_known_ones() {
    let filters = vec![Filter::new("vendr", json!("noto"))];
    let error = pack("val").select(&Select { filters, ..Select::default() }).unwrap_err();
    insta::assert_snapshot!(error);
}

#[test]
fn side_tables_are_checked_line_by_line() {
    let error = |table: &str| Join::from_jsonl("cp", table.as_bytes()).unwrap_err();
    assert!(matches!(error("{\"cp\":1}\n\n{"), SelectError::TableLine { line: 3, .. }));
    assert!(matches!(error("[1]"), SelectError::TableLine { line: 1, .. }));
    assert!(matches!(error("{\"x\":1}"), SelectError::NoKeyColumn { line: 1, .. }));
    assert!(matches!(error("{\"cp\":1}\n{\"cp\":1}"), SelectError::RepeatedKey { line: 2, .. }));
}

#[test]
fn manifests_round_trip_and_damage_is_found() {
    let mut manifest = pack("val").select(&Select { join: Some(concepts()), ..Select::default() }).unwrap();
    manifest.skipped.push(Skipped {
        shard: "val-0000.tar".into(),
        key: "k".into(),
        member: "k.json".into(),
        reason: SkipReason::InvalidJson { line: 1, column: 2, message: "why".into() },
    });
    let bytes = manifest.to_bytes();
    assert_eq!(Manifest::from_bytes(&bytes).unwrap(), manifest);
    assert_eq!(Manifest::from_bytes(&bytes).unwrap().to_bytes(), bytes);
    assert!(matches!(Manifest::from_bytes(b""), Err(ManifestError::Line { line: 1, .. })));
    assert!(matches!(Manifest::from_bytes(&bytes[..bytes.len() / 2]), Err(ManifestError::Count { .. })));
    let other = String::from_utf8(bytes).unwrap().replacen("manifest/1", "manifest/9", 1);
    assert!(matches!(Manifest::from_bytes(other.as_bytes()), Err(ManifestError::Format(_))));
}

#[test]
fn the_content_digest_sees_records_and_not_their_shards() {
    let bytes = Shard::embedded("val-0000.tar").unwrap().as_bytes().to_vec();
    let longer = [bytes.clone(), vec![0; 1024]].concat();
    let scan = |name: &str, bytes| {
        Manifest::scan(&[Shard::from_bytes(name, Arc::new(bytes))], &ScanOptions::default())
    };
    let (one, two) = (scan("a.tar", bytes), scan("b.tar", longer));
    assert_ne!(one.to_bytes(), two.to_bytes());
    assert_eq!(one.content_digest(), two.content_digest());
    let fewer = one.select(&Select { limit: Some(191), ..Select::default() }).unwrap();
    assert_ne!(one.content_digest(), fewer.content_digest());
}
