//! Any bytes as the file that `heddle cache import` reads.

use std::{collections::BTreeMap, io};

use heddle_graph::digest::Digest;

#[path = "../../../core/heddle/src/exec/bundle/file.rs"]
pub mod file;

use file::{Manifest, Refused};

/// Whether the bytes are a whole file.
pub fn check(bytes: &[u8]) -> bool {
    let manifest = match file::check(&mut &*bytes) {
        Ok(manifest) => manifest,
        Err(refused) => {
            let text = refused.to_string();
            assert!(!text.chars().any(char::is_control), "{text:?}");
            return false;
        }
    };
    let mut held: BTreeMap<Digest, Vec<u8>> = BTreeMap::new();
    let again = file::walk::<Refused>(&mut &*bytes, |listed, entry| {
        let mut payload = Vec::new();
        file::copy::<Refused>(entry, &mut payload, listed)?;
        assert_eq!((Digest::of(&payload), payload.len() as u64), (listed.digest, listed.bytes));
        assert!(held.insert(listed.digest, payload).is_none(), "a payload comes twice");
        Ok(())
    });
    assert_eq!(again.as_ref(), Ok(&manifest), "what was checked reads again");
    names_what_it_holds(&manifest, &held);
    assert_eq!(rewritten(&manifest, &held), manifest, "what is written again is the same");
    assert_eq!(rewritten(&Manifest::new(&manifest.run, ""), &held).contents().payloads, 0);
    true
}

fn names_what_it_holds(manifest: &Manifest, held: &BTreeMap<Digest, Vec<u8>>) {
    let outputs = manifest.traces.iter().flat_map(|trace| trace.outputs.values());
    assert!(
        outputs
            .chain(manifest.rows.iter().flat_map(|rows| [&rows.keys, &rows.rows]))
            .all(|name| held.contains_key(name))
    );
    let names = manifest.traces.iter().map(|trace| &trace.node).chain([&manifest.run, &manifest.file]);
    assert!(names.flat_map(|name| name.chars()).all(|c| !c.is_control()));
    for rows in &manifest.rows {
        let keys = held[&rows.keys].len() as u64 / 32;
        assert_eq!(held[&rows.rows].len() as u64, keys * rows.row_bytes);
    }
    let contents = manifest.contents();
    let bytes: usize = held.values().map(Vec::len).sum();
    assert_eq!((contents.payloads, contents.bytes), (held.len(), bytes as u64));
    assert_eq!(
        (contents.nodes, contents.run, contents.file),
        (manifest.traces.len(), manifest.run.clone(), manifest.file.clone())
    );
    assert!(contents.rows <= bytes as u64 / 32 * manifest.rows.len() as u64);
}

fn rewritten(manifest: &Manifest, held: &BTreeMap<Digest, Vec<u8>>) -> Manifest {
    let mut bytes = Vec::new();
    let written = file::write::<io::Error, _>(&mut bytes, manifest, |digest| Ok(&held[digest]));
    written.expect("memory can be written");
    file::check(&mut &*bytes).expect("what was written is whole")
}
