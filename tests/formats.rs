//! Data as other tools write it, read here, and data written here, read again: `formats/files` and `formats/expected.json`
//! are of `formats/make.py`.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::util::{Dir, here};

fn expected(name: &str) -> Vec<Json> {
    let text = std::fs::read_to_string(here().join("formats/expected.json")).unwrap();
    let all: Json = serde_json::from_str(&text).unwrap();
    all[name].as_array().unwrap().clone()
}

fn file(name: &str) -> String {
    here().join("formats/files").join(name).to_str().unwrap().to_owned()
}

/// The records of a source as `data show --json` prints them.
fn records(dir: &Dir, arguments: &[&str]) -> Vec<Json> {
    let shown = dir.done(&[&["data", "show", "--json"], arguments].concat());
    shown.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The BLAKE3 digests of the records' pictures: written out as class folders of one class, in the order of their names.
fn pictures(dir: &Dir, arguments: &[&str], out: &str) -> Vec<String> {
    dir.done(&[&["data", "export", "--format", "jsonl", "-o", out], arguments].concat());
    let table = dir.read(&format!("{out}/records.jsonl"));
    let of = |line: &str| {
        let row: Json = serde_json::from_str(line).unwrap();
        let path = dir.path().join(out).join("images").join(row["filepath"].as_str().unwrap());
        blake3::hash(&std::fs::read(path).unwrap()).to_hex().to_string()
    };
    table.lines().map(of).collect()
}

fn texts(record: &Json) -> Vec<&str> {
    record["captions"].as_array().unwrap().iter().map(|caption| caption["text"].as_str().unwrap()).collect()
}

fn images(expected: &[Json]) -> Vec<String> {
    expected.iter().map(|one| one["image"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn webdataset_shards() {
    let (dir, wanted) = (Dir::empty(), expected("webdataset"));
    let shards = file("webdataset/pairs-{000000..000001}.tar");
    let found = records(&dir, &[&shards]);
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_eq!((&found["key"], &found["en"]), (&wanted["key"], &wanted["en"]));
        assert_eq!(texts(found), [wanted["caption"].as_str().unwrap()]);
    }
    assert_eq!(pictures(&dir, &[&shards], "out"), images(&wanted));
    // A list of shards is read in its own order.
    let listed = records(&dir, &[&format!("@{}", file("webdataset/shards.txt"))]);
    assert_eq!(listed.len(), wanted.len());
    assert_eq!(listed[0]["key"], wanted[4]["key"]);
    let missing = dir.heddle(&["data", "show", "@nowhere.txt"]);
    assert_eq!(missing.code, Some(3), "{missing}");
    assert!(missing.stderr.contains("`nowhere.txt` cannot be read"), "{missing}");
    dir.write("list.txt", "# nothing yet\n\nx-*.tar\n");
    let none = dir.heddle(&["data", "show", "@list.txt"]);
    assert!(none.stderr.contains("`list.txt`, line 3: no file matches `x-*.tar`"), "{none}");
}

#[test]
fn class_folders() {
    let (dir, wanted) = (Dir::empty(), expected("class-folders"));
    let folder = file("class-folders");
    let found = records(&dir, &[&folder]);
    let classes = expected("classes");
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_eq!((&found["key"], &found["class"]), (&wanted["key"], &wanted["class"]));
        assert_eq!(&classes[found["label"].as_u64().unwrap() as usize], &wanted["class"]);
    }
    assert_eq!(pictures(&dir, &[&folder], "out"), images(&wanted));
}

#[test]
fn coco_captions() {
    let (dir, wanted) = (Dir::empty(), expected("coco"));
    let found = records(&dir, &[&file("captions.json"), "--pictures", &file("images")]);
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_eq!((&found["key"], &found["image_id"]), (&wanted["key"], &wanted["image_id"]));
        let captions: Vec<&str> =
            wanted["captions"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        assert_eq!(texts(found), captions);
    }
}

#[test]
fn tables_and_parquet() {
    let (dir, wanted) = (Dir::empty(), expected("table"));
    for table in ["pairs.csv", "pairs.tsv", "pairs.jsonl"] {
        let found = records(&dir, &[&file(table), "--pictures", &file("images")]);
        assert_eq!(found.len(), wanted.len(), "{table}");
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_eq!(found["key"], wanted["filepath"], "{table}");
            for column in ["title", "score", "rank"] {
                assert_eq!(
                    found[column].as_f64().map_or(found[column].clone(), Json::from),
                    wanted[column].as_f64().map_or(wanted[column].clone(), Json::from),
                    "{table} {column}"
                );
            }
        }
    }
    for packed in ["snappy", "zstd", "gzip"] {
        let table = file(&format!("pairs-{packed}.parquet"));
        dir.write(
            "x.toml",
            format!(
                "schema = 1\n[nodes.x]\nkind = \"data.table\"\nfile = {table:?}\nfolder = {:?}\ncaptions = {{ en = \"title\" }}\n",
                file("images")
            ),
        );
        let found = records(&dir, &["x.toml", "x"]);
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_eq!(
                (&found["key"], &found["score"], &found["rank"]),
                (&wanted["filepath"], &wanted["score"], &wanted["rank"])
            );
            assert_eq!(found["captions"], json!([{ "text": wanted["title"], "language": "en" }]));
        }
    }
}

#[test]
fn img2dataset_with_tars_and_with_columns() {
    let (dir, wanted) = (Dir::empty(), expected("img2dataset"));
    let tar = format!(
        "schema = 1\n[nodes.x]\nkind = \"data.parquet\"\ntables = {:?}\nshards = {:?}\n",
        file("img2dataset-webdataset/*.parquet"),
        file("img2dataset-webdataset/*.tar")
    );
    dir.write("x.toml", &tar);
    let found = records(&dir, &["x.toml", "x"]);
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(&wanted) {
        for column in ["key", "punsafe", "original_width"] {
            assert_eq!(found[column], wanted[column], "{column}");
        }
        assert_eq!(texts(found), [wanted["caption"].as_str().unwrap()]);
        assert_eq!(found["size"], json!([32, 32]));
    }
    assert_eq!(pictures(&dir, &["x.toml", "x"], "out"), images(&wanted));
    // The tar beside a table is found.
    assert_eq!(records(&dir, &[&file("img2dataset-webdataset/00000.parquet")]).len(), wanted.len());
    // What was never fetched is no broken record: it is counted.
    let shown = dir.done(&["data", "show", "x.toml", "x", "-n", "0"]);
    assert!(shown.stdout.contains("download: 6 of 7 kept"), "{shown}");

    let wanted = expected("img2dataset-parquet");
    let table = file("img2dataset-parquet/00000.parquet");
    let found = records(&dir, &[&table]);
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_eq!(found["key"], wanted["key"]);
        assert_eq!(texts(found), [wanted["caption"].as_str().unwrap()]);
    }
    assert_eq!(pictures(&dir, &[&table], "out2"), images(&wanted));
}

#[test]
fn parquet_that_lacks_columns() {
    let dir = Dir::empty();
    let failed = |text: String| {
        dir.write("y.toml", format!("schema = 1\n[nodes.y]\n{text}"));
        let ended = dir.heddle(&["run", "y.toml"]);
        assert_eq!(ended.code, Some(1), "{ended}");
        ended.stderr.lines().find(|line| line.starts_with("error")).unwrap_or_default().to_owned()
    };
    let plain = file("pairs-zstd.parquet");
    let said = failed(format!("kind = \"data.parquet\"\ntables = {plain:?}\n"));
    assert!(said.contains("`pairs-zstd.parquet`: no column holds bytes"), "{said}");
    let said = failed(format!("kind = \"data.parquet\"\ntables = {plain:?}\npicture = \"title\"\n"));
    assert!(said.contains("column `title` is"), "{said}");
    let tar = file("img2dataset-webdataset/00000.tar");
    let said = failed(format!("kind = \"data.parquet\"\ntables = {plain:?}\nshards = {tar:?}\n"));
    assert!(
        said.contains("`pairs-zstd.parquet` has no tar called `pairs-zstd.tar` under `shards`"),
        "{said}"
    );
    let said = failed(format!("kind = \"data.table\"\nfile = {plain:?}\nfolder = \".\"\npath = \"where\"\n"));
    assert!(
        said.contains("there is no column `where`; there are filepath, title, score, rank, note"),
        "{said}"
    );
    let bytes = std::fs::read(&plain).unwrap();
    dir.write("torn.parquet", &bytes[..bytes.len() / 2]);
    let said = failed("kind = \"data.parquet\"\ntables = \"torn.parquet\"\n".into());
    assert!(said.contains("`torn.parquet`: the file does not read as parquet"), "{said}");
}

#[test]
fn clip_benchmark_test_sets() {
    let (dir, wanted) = (Dir::empty(), expected("clip-benchmark"));
    let set = |name: &str, more: &str| {
        let shards = file(&format!("clip-benchmark/{name}/test/*.tar"));
        dir.write(
            "x.toml",
            format!("schema = 1\n[nodes.x]\nkind = \"data.clip-benchmark\"\nshards = {shards:?}\n{more}"),
        );
        records(&dir, &["x.toml", "x"])
    };
    let names = format!("classnames = {:?}\n", file("clip-benchmark/classes/classnames.txt"));
    let found = set("classes", &names);
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_eq!((&found["label"], &found["class"]), (&wanted["label"], &wanted["class"]));
    }
    for (found, wanted) in set("retrieval", "").iter().zip(&wanted) {
        let captions: Vec<&str> =
            wanted["captions"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        assert_eq!(texts(found), captions);
    }
}

/// Every form that is written reads back as the same pictures, in the same order where the form has one.
#[test]
fn exports_read_back() {
    let dir = Dir::empty();
    dir.write(
        "x.toml",
        format!(
            "schema = 1\n[nodes.x]\nkind = \"data.class-folders\"\nfolder = {:?}\nsource = \"emoji\"\n[nodes.t]\nkind = \"data.table\"\n\
             file = {:?}\nfolder = {:?}\ncaptions = {{ en = \"title\", und = \"note\" }}\n",
            file("class-folders"), file("pairs.jsonl"), file("images")
        ),
    );
    let export = |node: &str, format: &str, more: &[&str]| {
        dir.done(&[&["data", "export", "x.toml", node, "-o", format, "--format", format], more].concat());
    };
    let original = pictures(&dir, &["x.toml", "t"], "original");
    let captions =
        |records: &[Json]| records.iter().map(|record| record["captions"].clone()).collect::<Vec<_>>();
    let told = captions(&records(&dir, &["x.toml", "t"]));

    export("t", "webdataset", &["--shard-size", "4", "--split", "pairs"]);
    let found = records(&dir, &["webdataset/pairs-{000000..000001}.tar"]);
    assert_eq!((found.len(), captions(&found)), (6, told.clone()));
    assert_eq!(pictures(&dir, &["webdataset/pairs-*.tar"], "a"), original);
    assert_eq!(found[0]["score"], json!(0.0));

    export("t", "parquet", &["--shard-size", "4"]);
    let found = records(&dir, &["parquet/*.parquet"]);
    assert_eq!((found.len(), captions(&found)), (6, told.clone()));
    assert_eq!(found[5]["rank"], json!(5));
    assert_eq!(pictures(&dir, &["parquet/*.parquet"], "b"), original);

    export("t", "img2dataset", &["--shard-size", "5"]);
    dir.write("i.toml", "schema = 1\n[nodes.i]\nkind = \"data.parquet\"\ntables = \"img2dataset/*.parquet\"\nshards = \"img2dataset/*.tar\"\n");
    let found = records(&dir, &["i.toml", "i"]);
    assert_eq!(found[5]["key"], json!("000010000"));
    assert_eq!(captions(&found), told);
    assert_eq!(pictures(&dir, &["i.toml", "i"], "c"), original);

    export("t", "coco", &[]);
    assert_eq!(pictures(&dir, &["coco/captions.json", "--pictures", "coco/images"], "d"), original);
    for form in ["csv", "tsv", "jsonl"] {
        export("t", form, &[]);
        let source = format!("{form}/records.{form}");
        assert_eq!(
            pictures(&dir, &[&source, "--pictures", &format!("{form}/images")], &format!("e{form}")),
            original
        );
    }
    export("x", "class-folders", &[]);
    let (a, b) = (records(&dir, &[&file("class-folders")]), records(&dir, &["class-folders"]));
    let classes = |records: &[Json]| {
        records.iter().map(|record| (record["class"].clone(), record["label"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(classes(&a), classes(&b));
    export("x", "clip-classification", &[]);
    assert_eq!(dir.read("clip-classification/classnames.txt").lines().count(), 4);
    export("t", "clip-retrieval", &[]);
    assert_eq!(dir.read("clip-retrieval/dataset_type.txt"), "retrieval");
    assert!(Path::new(&dir.path().join("clip-retrieval/test/0.tar")).exists());
}

#[test]
fn exports_that_cannot_be_written_leave_nothing() {
    let dir = Dir::empty();
    let folder = file("class-folders");
    let said = |arguments: &[&str]| {
        let ended = dir.heddle(&[&["data", "export", &folder, "-o", "out"], arguments].concat());
        assert_eq!(ended.code, Some(1), "{ended}");
        ended.stderr.lines().find(|line| line.starts_with("error")).unwrap_or_default().to_owned()
    };
    assert!(said(&["--format", "llava"]).ends_with("has no column `conversations`"));
    assert!(said(&["--format", "coco"]).ends_with("has no caption"));
    assert!(said(&["--format", "masks"]).contains("has no mask"));
    assert_eq!(said(&["--format", "coco", "--class", "x"]), "error: `--class` means nothing to this format");
    let said_most = said(&["--format", "img2dataset", "--shard-size", "20000"]);
    assert!(
        said_most.ends_with("img2dataset's keys count 10000 records of a shard (`--shard-size`)"),
        "{said_most}"
    );
    let pictures = said(&["--format", "class-folders", "--pictures", "."]);
    assert!(pictures.contains("`--pictures` is for tables and annotation files"), "{pictures}");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    dir.write("out/mine.txt", "mine");
    assert_eq!(said(&["--format", "class-folders"]), "error: `out` is not empty; nothing was written");
    let no = dir.heddle(&["data", "show", "x.xyz"]);
    assert!(no.stderr.contains("`x.xyz` is neither an experiment"), "{no}");
}

#[test]
fn what_is_shown_of_a_set() {
    let dir = Dir::empty();
    let mut bytes = std::fs::read(file("webdataset/pairs-000000.tar")).unwrap();
    bytes.truncate(bytes.len() / 2);
    dir.write("torn.tar", bytes);
    insta::assert_snapshot!(dir.done(&["data", "show", "torn.tar", "-n", "1"]).stdout);
}
