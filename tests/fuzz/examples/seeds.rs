//! Writes the seeds that are made by code: `cargo run --example seeds` in `tests/fuzz`.

use std::{collections::BTreeMap, fs, io::Write, path::Path};

use heddle_data::{Caption, Footer, Part, Record, RowWriter, ShardInfo, SkipReason, Skipped, digest};
use heddle_fuzz::{
    bundle::file::{self, Listed, Manifest, Rows},
    kinds::{EXPERIMENT, MODEL},
};
use heddle_graph::{
    digest::Digest,
    plan::{InputKey, KeyParts, Trace},
};
use serde_json::{Map, Value, json};

fn main() {
    tars();
    configs();
    plugins();
    manifests();
    bundles();
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target).join(name);
    fs::write(path, bytes).expect("the folder is there");
}

/// A member: its type, its name and its content; links point at their content.
type Member<'a> = (tar::EntryType, &'a str, &'a [u8]);

const FILE: tar::EntryType = tar::EntryType::Regular;

fn tar_of(members: &[Member<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, name, content) in members {
        let link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
        let data: &[u8] = if link { &[] } else { content };
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        let raw = header.as_mut_bytes();
        raw[..name.len()].copy_from_slice(name.as_bytes());
        if link {
            raw[157..157 + content.len()].copy_from_slice(content);
        }
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn tars() {
    let plain = tar_of(&[
        (FILE, "a.png", b"\x89PNG"),
        (FILE, "a.json", br#"{"en":"cat","n":1,"tags":["x",null],"o":{"p":1.5}}"#),
        (FILE, "dir/b.JPG", b"\xff\xd8"),
        (FILE, "dir/b.txt", b"a dog\n"),
        (FILE, "dir/b.cls", b"7"),
    ]);
    write("tar", "valid-plain.tar", &plain);
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(&plain).expect("memory can be written");
    write("tar", "valid-packed.tar.gz", &packer.finish().expect("memory can be written"));
    write("tar", "torn.tar", &plain[..1300]);
    let links = [
        (tar::EntryType::Symlink, "l.png", &b"/etc/passwd"[..]),
        (tar::EntryType::Link, "h.png", b"a.png"),
        (tar::EntryType::Directory, "d/", b""),
        (FILE, "/abs.png", b"x"),
        (FILE, "../up.png", b"x"),
        (FILE, "a.png", b"x"),
        (FILE, "a.json", b"{\n \"en\": ,}"),
        (FILE, "c.png", b"x"),
        (FILE, "a.png", b"again"),
    ];
    write("tar", "valid-among-links.tar", &tar_of(&links));
    let long = [
        (tar::EntryType::GNULongName, "././@LongLink", &b"a/long/name.png\0"[..]),
        (FILE, "short.png", b"x"),
        (tar::EntryType::XHeader, "pax", b"19 path=other.png\n\n11 size=1\n"),
        (FILE, "short.png", b"y"),
        (tar::EntryType::XGlobalHeader, "pax", b"14 comment=no\n"),
        (tar::EntryType::GNUSparse, "s.png", b"z"),
    ];
    write("tar", "long-names.tar", &tar_of(&long));
    let nested = format!(r#"{{"deep":{}1{}}}"#, "[".repeat(20), "]".repeat(20));
    write("tar", "valid-nested.tar", &tar_of(&[(FILE, "a.png", b"x"), (FILE, "a.json", nested.as_bytes())]));
}

fn configs() {
    write("config", "valid-experiment.toml", EXPERIMENT.as_bytes());
    write("config", "valid-model.toml", MODEL.as_bytes());
    let with = |change: &str| [EXPERIMENT, "\0", change].concat();
    write("config", "valid-override.toml", with("nodes.stage1.batch=3").as_bytes());
    write("config", "override-of-a-table.toml", with("nodes.stage1.optimizer={ kind = \"sgd\" }").as_bytes());
    let layered = "schema = 1\nextends = [\"../graphs/model.toml\"]\n[graphs]\nm = { file = \"../graphs/model.toml\", \
                   params = { width = 8 }, nodes = { vit = { depth = 3 } } }\n[nodes.s]\nkind = \"data.source\"\n\
                   [nodes.t]\nkind = \"train\"\ngraph = \"m\"\nin = \"s\"\nsteps = 1\n[run]\ndevice = \"cpu\"\nmemory = \"2GiB\"\n\
                   [sweeps.s]\nzip = { seed = [1, 2] }\nexclude = [{ seed = 1 }]\n";
    write("config", "layers.toml", layered.as_bytes());
    let mistakes = "schema = 2\nsed = 1\n[params]\na = \"${params.b}\"\nb = \"${params.a}\"\n[nodes.\"é\"]\nkind = \"trian\"\n\
                    in = { x = \"y.z\", w = 3 }\n[nodes.a]\nkind = \"report\"\nin = \"a.table\"\n[nodes.u]\nkind=\"\\u001b[2J\"\n";
    write("config", "mistakes.toml", mistakes.as_bytes());
}

/// A filter without sense: plugins are scanned here and never run.
const FILTER: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "heddle:plugin/lifecycle@0.1.0#describe") (result i32) (i32.const 0))
  (func (export "heddle:plugin/lifecycle@0.1.0#open") (param i32 i32 i64) (result i32) (i32.const 0))
  (func (export "heddle:plugin/filter@0.1.0#apply") (param i32 i32 i32) (result i32)
    (block (loop (br_table 0 1 (local.get 0)))) (i32.const 0))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (unreachable)))"#;

fn plugins() {
    let mut module = wat::parse_str(FILTER).expect("the text is right");
    write("answers", "no-interface.wasm", &module);
    let mut resolve = wit_parser::Resolve::default();
    let text = include_str!("../../../plugins/wit/0.1/plugin.wit");
    let package = resolve.push_str("plugin.wit", text).expect("the interface is right");
    let world = resolve.select_world(&[package], Some("filter-plugin")).expect("the world is there");
    let utf8 = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, utf8).expect("the world fits");
    write("answers", "valid-filter.wasm", &module);
    let encoder = wit_component::ComponentEncoder::default().module(&module).expect("the interface is there");
    write("answers", "valid-component.wasm", &{ encoder }.encode().expect("the module fits its interface"));
}

fn manifests() {
    write("manifest", "valid-empty.arrow", &manifest(&[]));
    let rich = json!({ "n": 1, "x": 0.5, "yes": true, "list": ["a", null], "o": { "p": "q", "r": [1] }, "mixed": 1 });
    let other =
        json!({ "n": null, "x": 2.0, "list": [], "o": { "p": "s" }, "mixed": "text", "late": u64::MAX });
    write("manifest", "valid-plain.arrow", &manifest(&[record("a", json!({}))]));
    write("manifest", "valid-columns.arrow", &manifest(&[record("a", rich), record("b", other)]));
}

fn record(key: &str, columns: Value) -> Record {
    let shard = [7; 32];
    let digest = digest::of(key.as_bytes());
    let part = Part { shard, path: "a/b".into(), offset: 512, len: 2, digest };
    let columns = columns.as_object().cloned().unwrap_or_else(Map::new);
    let mut record = Record::new(key.into(), shard, BTreeMap::from([("png".to_owned(), part)]), columns);
    record.captions = vec![Caption::new("a cat", Some("en")), Caption::new("x", None)];
    record.size = Some([3, 2]);
    record
}

fn manifest(records: &[Record]) -> Vec<u8> {
    let mut rows = RowWriter::new(Footer::new(vec![ShardInfo { name: "a.tar".into(), digest: [7; 32] }]));
    records.iter().for_each(|record| rows.push(record.clone()).expect("the record lies in the shard"));
    let member = "b.png".to_owned();
    rows.skip(Skipped { shard: "a.tar".into(), key: "b".into(), member, reason: SkipReason::DuplicateKey });
    rows.finish(Vec::new()).expect("memory can be written")
}

fn bundles() {
    let tar = |manifest: &Manifest, payloads: &[&[u8]]| {
        let mut bytes = Vec::new();
        let payload = |digest: &Digest| -> std::io::Result<Vec<u8>> {
            Ok(payloads
                .iter()
                .find(|bytes| Digest::of(bytes) == *digest)
                .copied()
                .unwrap_or_default()
                .to_vec())
        };
        file::write(&mut bytes, manifest, payload).expect("memory can be written");
        bytes
    };
    let mut manifest = Manifest::new("20260101-000000-0000", "a.toml");
    write("bundle", "valid-empty.tar", &tar(&manifest, &[]));
    let (artifact, keys, rows) = (&b"{}"[..], &[7; 64][..], &[1, 2, 3, 4, 5, 6][..]);
    let parts = KeyParts {
        kind: "features".into(),
        version: 1,
        config: json!({ "batch": 8, "lr": 0.1, "list": [1, { "a": null }] }),
        model: None,
        seed: Some(3),
        numerics: Some("cpu 2".into()),
        files: BTreeMap::new(),
        inputs: BTreeMap::from([(
            "records".into(),
            vec![InputKey { digest: Digest::of(b"r"), label: None, part: None }],
        )]),
    };
    let key = parts.digest();
    let outputs = BTreeMap::from([("features".to_owned(), Digest::of(artifact))]);
    manifest.traces = vec![Trace { node: "embed".into(), parts, outputs, seconds: 0.5, finished_unix: 1 }];
    let set = Digest::of(b"set");
    manifest.rows =
        vec![Rows { set, keys: Digest::of(keys), rows: Digest::of(rows), row_bytes: 3, seconds: 0.25 }];
    manifest.used = BTreeMap::from([(key, [(set, Digest::of(keys))].into())]);
    let payloads = [artifact, keys, rows];
    manifest.payloads = payloads
        .iter()
        .map(|bytes| Listed { digest: Digest::of(bytes), bytes: bytes.len() as u64 })
        .collect();
    let whole = tar(&manifest, &payloads);
    write("bundle", "valid-run.tar", &whole);
    write("bundle", "torn.tar", &whole[..whole.len() / 2]);
    write("bundle", "changed-payload.tar", &tar(&manifest, &[artifact, keys, &[9; 6]]));
    manifest.run = "\u{1b}[2J".into();
    write("bundle", "escapes.tar", &tar(&manifest, &payloads));
    manifest.run.clear();
    manifest.payloads.pop();
    write("bundle", "unheld.tar", &tar(&manifest, &payloads));
}
