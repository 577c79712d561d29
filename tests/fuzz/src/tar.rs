//! Any bytes as a shard: a tar, and a tar.gz if they begin like one.

use std::{collections::HashSet, sync::Arc};

use arrow_buffer::Buffer;
use heddle_data::{
    Footer, Manifest, RowWriter, Scan, ScanOptions, Shard, ShardInfo, Shards, SplitFrom,
    record::content_digest, scan,
};

/// Whether the bytes hold a record.
pub fn check(bytes: &[u8]) -> bool {
    let plain = read(&Shard::from_bytes("fuzz-0000.tar", Arc::new(bytes.to_vec())));
    let packed = bytes.starts_with(&[0x1f, 0x8b]) && unpacked(bytes).is_some_and(|shard| read(&shard));
    plain || packed
}

/// The shard in a gzip; `None` if it does not unpack.
fn unpacked(bytes: &[u8]) -> Option<Shard> {
    let folder = tempfile::tempdir().expect("there is a place for temporary files");
    let path = folder.path().join("fuzz-0000.tar.gz");
    std::fs::write(&path, bytes).expect("there is room for a few kilobytes");
    Shard::open(&path).ok()
}

fn read(shard: &Shard) -> bool {
    let columns = ScanOptions { require_image: false, split_from: SplitFrom::ShardName };
    let (images, all) = (scan(shard, &ScanOptions::default()), scan(shard, &columns));
    assert!(images.records.len() <= all.records.len());
    assert!(images.records.iter().all(|record| record.image().is_some()));
    holds_what_it_says(shard, &images);
    holds_what_it_says(shard, &all);
    if !all.records.is_empty() {
        becomes_a_manifest(shard, &all);
    }
    !all.records.is_empty()
}

/// Every record is named once, by a name that stays inside, and its parts read back.
fn holds_what_it_says(shard: &Shard, scan: &Scan) {
    // A member takes a block at least, so what is found is bounded by what is there.
    let members = shard.as_bytes().len() / 512 + 1;
    assert!(scan.records.len() <= members && scan.skipped.len() <= members);
    let shards = Shards::from_iter([shard.clone()]);
    let mut keys = HashSet::new();
    for record in &scan.records {
        assert!(keys.insert(&record.key), "`{}` comes twice", record.key);
        assert!(!record.key.starts_with('/') && record.key.split('/').all(|step| step != ".."));
        assert!(!record.parts.is_empty());
        assert_eq!(record.digest, content_digest(&record.parts));
        for part in record.parts.values() {
            let bytes = shards.bytes(part).expect("a part that was scanned reads back");
            assert_eq!(bytes.len() as u64, part.len);
        }
    }
    assert!(scan.skipped.iter().all(|skipped| !skipped.to_string().is_empty()));
}

/// What was scanned can be written as a manifest, whatever JSON the columns are made of, and is the same records there.
fn becomes_a_manifest(shard: &Shard, scan: &Scan) {
    let info = ShardInfo { name: shard.name.clone(), digest: shard.digest };
    let mut rows = RowWriter::new(Footer::new(vec![info]));
    scan.records.iter().for_each(|record| rows.push(record.clone()).expect("a record can be written"));
    scan.skipped.iter().for_each(|skipped| rows.skip(skipped.clone()));
    let bytes = rows.finish(Vec::new()).expect("a manifest can be written");
    let manifest = Manifest::open(Buffer::from(bytes)).expect("a manifest that was written opens");
    assert_eq!(manifest.len(), scan.records.len());
    for (read, scanned) in manifest.records().zip(&scan.records) {
        let read = read.expect("a record that was written reads back");
        assert_eq!((&read.key, &read.parts, read.digest), (&scanned.key, &scanned.parts, scanned.digest));
        assert_eq!(read.captions, scanned.captions);
    }
}
