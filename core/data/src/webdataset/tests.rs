use std::sync::Arc;

use proptest::prelude::*;

use super::*;

/// A ustar archive of plain files.
fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        // Written by hand: the builder refuses the unsafe names that are tested here.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn shard(bytes: Vec<u8>) -> Shard {
    Shard::from_bytes("train-0000.tar", Arc::new(bytes))
}

fn scan_members(members: &[(&str, &[u8])]) -> Scan {
    scan(&shard(tar_of(members)), &ScanOptions::default())
}

fn keys(scan: &Scan) -> Vec<&str> {
    scan.records.iter().map(|record| record.key.as_str()).collect()
}

const THREE: [(&str, &[u8]); 6] = [
    ("a.png", &[1; 700]),
    ("a.json", br#"{"en":"cat"}"#),
    ("b.png", &[2; 512]),
    ("b.json", br#"{"en":"dog"}"#),
    ("c.png", &[3; 10]),
    ("c.json", br#"{"en":"owl"}"#),
];

#[test]
fn members_become_records_with_columns() {
    let scan = scan_members(&[
        ("dir/a.PNG", b"x"),
        ("dir/a.json", br#"{"en":"cat"}"#),
        ("dir/a.txt", b"a cat\n"),
        ("dir/a.cls", b"7"),
        ("dir/a.seg.png", b"y"),
    ]);
    assert_eq!((keys(&scan), &scan.skipped[..]), (vec!["dir/a"], &[][..]));
    let record = &scan.records[0];
    assert_eq!(record.parts.keys().collect::<Vec<_>>(), ["cls", "json", "png", "seg.png", "txt"]);
    assert_eq!(serde_json::to_string(&record.columns).unwrap(), r#"{"en":"cat","txt":"a cat","cls":7}"#);
    assert_eq!(record.image().unwrap().digest, digest::of(b"x"));
}

#[test]
fn the_split_comes_from_the_shard_name() {
    for (name, split) in
        [("train-0000.tar", "train"), ("shift-noto-v1-0000.tar", "shift-noto-v1"), ("val.tar", "val")]
    {
        assert_eq!(split_of(name), split);
    }
    let options = ScanOptions { split_from: SplitFrom::ShardName, ..ScanOptions::default() };
    assert_eq!(scan(&shard(tar_of(&THREE)), &options).records[0].columns["split"], "train");
}

#[test]
fn broken_members_are_named_with_the_reason() {
    let scan = scan_members(&[
        ("/etc/a.png", b"x"),
        ("b/../../c.png", b"x"),
        ("noextension", b"x"),
        (".hidden", b"x"),
        ("a.png", b"x"),
        ("a.json", b"{\n  \"en\": ,\n}"),
        ("b.json", b"{}"),
        ("c.png", b"x"),
        ("c.json", b"[1]"),
        ("d.png", b"x"),
        ("d.png", b"y"),
        ("e.png", b"x"),
        ("e.txt", b"\xff"),
        ("f.png", b"x"),
        ("a.png", b"again"),
        ("g.png", b"x"),
    ]);
    assert_eq!(keys(&scan), ["f", "g"]);
    let lines: Vec<String> = scan.skipped.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

/// A member that is no file: its type, its name and what it points at.
fn tar_with(kind: tar::EntryType, name: &str, target: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(0);
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    builder.append(&header, &[][..]).unwrap();
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(512);
    bytes.extend(tar_of(&[("b.png", b"x")]));
    bytes
}

/// Nothing is read through a link, wherever it points; what stands beside it is kept.
#[test]
fn links_and_devices_are_named() {
    use tar::EntryType as E;
    let lines: Vec<String> = [
        (E::Symlink, "a.png", "/etc/passwd"),
        (E::Symlink, "a.png", "b.png"),
        (E::Link, "a.png", "b.png"),
        (E::Char, "a.png", ""),
        (E::Fifo, "a.png", ""),
        (E::Directory, "a.png", ""),
    ]
    .iter()
    .map(|(kind, name, target)| {
        let scan = scan(&shard(tar_with(*kind, name, target)), &ScanOptions::default());
        assert_eq!(keys(&scan), ["b"], "{kind:?}");
        let skipped: Vec<String> = scan.skipped.iter().map(ToString::to_string).collect();
        format!("{kind:?}: {}", skipped.join(", "))
    })
    .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn an_empty_archive_has_no_records_and_an_empty_file_is_torn() {
    assert_eq!(scan_members(&[]), Scan::default());
    let nothing = scan(&shard(Vec::new()), &ScanOptions::default());
    let said: Vec<String> = nothing.skipped.iter().map(ToString::to_string).collect();
    assert!(nothing.records.is_empty());
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn an_archive_without_images_is_counted_record_by_record() {
    let scan = scan_members(&[("a.txt", b"x"), ("b.json", b"{}"), ("c.mp4", b"x")]);
    let said: Vec<String> = scan.skipped.iter().map(ToString::to_string).collect();
    assert!(scan.records.is_empty());
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn an_image_is_required_unless_the_options_say_otherwise() {
    let shard = shard(tar_of(&[("a.txt", b"words")]));
    assert!(scan(&shard, &ScanOptions::default()).records.is_empty());
    let options = ScanOptions { require_image: false, ..ScanOptions::default() };
    assert_eq!(keys(&scan(&shard, &options)), ["a"]);
}

#[test]
fn a_torn_archive_keeps_what_came_before_the_tear() {
    let whole = tar_of(&THREE);
    let expected = scan(&shard(whole.clone()), &ScanOptions::default()).records;
    assert_eq!(expected.len(), 3);
    // Three pairs take 3 + 2, 2 + 2 and 2 + 2 blocks; then the archive ends with blocks of zeros.
    for cut in (0..whole.len()).step_by(512).chain((0..whole.len()).step_by(97)) {
        let torn = scan(&shard(whole[..cut].to_vec()), &ScanOptions::default());
        let complete = [5, 9, 13].iter().filter(|blocks| cut > *blocks * 512).count();
        let at_the_end = cut >= 14 * 512;
        let kept = torn.records.len();
        assert_eq!(torn.skipped.is_empty(), at_the_end, "cut at {cut}: {:?}", torn.skipped);
        assert!(kept <= complete && kept + 1 >= complete, "cut at {cut}: {kept} of {complete}");
        for (torn, expected) in torn.records.iter().zip(&expected) {
            assert_eq!((&torn.key, torn.digest), (&expected.key, expected.digest));
        }
    }
}

#[test]
fn a_record_is_its_content_wherever_it_lies() {
    let (first, last) = (scan_members(&THREE[..2]), scan_members(&[&THREE[2..], &THREE[..2]].concat()));
    assert_eq!(first.records[0].digest, last.records[2].digest);
    assert_ne!(first.records[0].parts["png"], last.records[2].parts["png"]);
}

proptest! {
    #[test]
    fn damage_never_panics(at in 0usize..8000, with in any::<[u8; 8]>(), cut in 0usize..9000) {
        let mut bytes = tar_of(&THREE);
        let at = at % (bytes.len() - 8);
        bytes[at..at + 8].copy_from_slice(&with);
        bytes.truncate(cut);
        let scan = scan(&shard(bytes), &ScanOptions::default());
        prop_assert!(scan.records.len() <= 3);
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        scan(&shard(bytes), &ScanOptions::default());
    }
}
