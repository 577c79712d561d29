//! Nodes that choose, combine and widen records.

use serde_json::{Value as Json, json};

use crate::util::Dir;

/// A folder of files that stand for pictures, and tables that name them.
struct Set(Dir);

impl Set {
    fn new() -> Self {
        Self(Dir::empty())
    }

    /// Makes a source node: a row for each of these, with a picture of its own.
    fn source(&self, name: &str, rows: &[Json]) -> String {
        let mut lines = String::new();
        for (place, row) in rows.iter().enumerate() {
            let path = format!("{name}{place:03}.png");
            self.0.write(&format!("{name}/{path}"), format!("bytes of {path}"));
            let mut row = row.clone();
            row["filepath"] = path.into();
            lines.push_str(&format!("{row}\n"));
        }
        self.0.write(&format!("{name}.jsonl"), lines);
        format!(
            "[nodes.{name}]\nkind = \"data.table\"\nfile = \"{name}.jsonl\"\nfolder = \"{name}\"\nsource = \"{name}\"\n"
        )
    }

    fn write(&self, nodes: &[&str]) {
        self.0.write("x.toml", format!("schema = 1\n{}", nodes.concat()));
    }

    fn show(&self, node: &str, more: &[&str]) -> Vec<Json> {
        let shown = self.0.done(&[&["data", "show", "x.toml", node, "--json"], more].concat());
        shown.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn keys(&self, node: &str, more: &[&str]) -> Vec<String> {
        self.show(node, more).iter().map(|record| record["key"].as_str().unwrap().to_owned()).collect()
    }

    fn error(&self) -> String {
        let ended = self.0.heddle(&["run", "x.toml"]);
        assert_ne!(ended.code, Some(0), "{ended}");
        ended.stderr.lines().find(|line| line.starts_with("error")).unwrap_or_default().to_owned()
    }
}

fn numbered(count: usize) -> Vec<Json> {
    (0..count).map(|n| json!({ "n": n })).collect()
}

#[test]
fn concat_keeps_order_and_columns_of_all() {
    let set = Set::new();
    let a = set.source("a", &[json!({ "n": 1, "only_a": "x" }), json!({ "n": 2 })]);
    let b = set.source("b", &[json!({ "n": 0.5, "only_b": [1] })]);
    set.write(&[&a, &b, "[nodes.x]\nkind = \"data.concat\"\nin = [\"b\", \"a\"]\n"]);
    assert_eq!(set.keys("x", &[]), ["b000.png", "a000.png", "a001.png"]);
    let rows = set.show("x", &[]);
    assert_eq!((&rows[0]["n"], &rows[1]["n"], &rows[1]["only_a"]), (&json!(0.5), &json!(1.0), &json!("x")));
    assert_eq!((&rows[0]["source"], &rows[2]["source"]), (&json!("b"), &json!("a")));
    let c = set.source("c", &[json!({ "n": "one" })]);
    set.write(&[&a, &c, "[nodes.x]\nkind = \"data.concat\"\nin = [\"a\", \"c\"]\n"]);
    assert_eq!(set.error(), "error: node `x`: column `n` is Int64 in `a` and Utf8 in `c`");
    // Pictures are found in the shard of each.
    set.0.done(&["data", "export", "x.toml", "a", "--format", "csv", "-o", "out"]);
}

#[test]
fn mix_gives_each_set_its_share() {
    let set = Set::new();
    let (a, b) = (set.source("a", &numbered(64)), set.source("b", &numbered(4)));
    let mix = |more: &str| {
        let node = format!(
            "[nodes.x]\nkind = \"data.mix\"\nin = {{ records = {{ a = \"a\", b = \"b\" }} }}\n{more}"
        );
        set.write(&[&a, &b, &node]);
        let keys = set.keys("x", &[]);
        let of_b = keys.iter().filter(|key| key.starts_with('b')).count();
        (keys, of_b)
    };
    // 8 to 2.
    let (keys, of_b) = mix("size = 50\n");
    assert_eq!((keys.len(), of_b), (50, 10));
    assert!(keys[..10].iter().filter(|key| key.starts_with('b')).count() == 2, "{keys:?}");
    // Every record of b twice, and two of them three times.
    let count = |key: &str| keys.iter().filter(|known| *known == key).count();
    let mut counts = [0, 1, 2, 3].map(|n| count(&format!("b{n:03}.png")));
    counts.sort_unstable();
    assert_eq!(counts, [2, 2, 3, 3]);
    assert_eq!(mix("weights = \"size\"\n").1, 4);
    assert_eq!(mix("weights = \"equal\"\nsize = 8\n").1, 4);
    assert_eq!(mix("shares = { a = 1, b = 3 }\nsize = 8\n").1, 6);
    let first = mix("size = 50\n").0;
    assert_eq!(first, keys, "the seed decides");
    let other = set.keys("x", &["-S", "seed=5"]);
    assert_ne!(first, other);
    mix("size = 8\n");
    set.write(&[&a, &b, "[nodes.x]\nkind = \"data.mix\"\nin = { records = { a = \"a\", b = \"b\" } }\nshares = { a = 1, c = 2 }\n"]);
    assert_eq!(
        set.error(),
        "error: node `x`: `shares` names `c`, which is no label of a set; there are a, b"
    );
}

#[test]
fn samples_and_splits_belong_to_records() {
    let set = Set::new();
    let a = set.source("a", &(0..100).map(|n| json!({ "n": n, "who": n % 10 })).collect::<Vec<_>>());
    let sample = |more: &str| {
        set.write(&[&a, "[nodes.x]\nkind = \"data.sample\"\nin = \"a\"\n", more]);
        set.keys("x", &[])
    };
    let (ten, twenty, half) = (sample("count = 10\n"), sample("count = 20\n"), sample("share = 0.5\n"));
    assert_eq!((ten.len(), twenty.len(), sample("count = 1000\n").len()), (10, 20, 100));
    assert!(ten.iter().all(|key| twenty.contains(key)));
    assert!((30..70).contains(&half.len()), "{}", half.len());
    assert!(ten.is_sorted(), "in the order of the records");
    set.write(&[&a, "[nodes.x]\nkind = \"data.sample\"\nin = \"a\"\n"]);
    assert!(set.error().contains("exactly one of `count` and `share` says how many"), "{}", set.error());

    let split = "[nodes.x]\nkind = \"data.split\"\nin = \"a\"\nparts = { train = 0.7, val = 0.3 }\n";
    set.write(&[&a, split]);
    let (train, val) = (set.keys("x.train", &[]), set.keys("x.val", &[]));
    assert_eq!(train.len() + val.len(), 100);
    assert!(train.iter().all(|key| !val.contains(key)));
    assert!((15..45).contains(&val.len()), "{}", val.len());
    // Fewer records upstream move none of the others.
    let fewer = set.keys("x.val", &["-S", "nodes.a.limit=50"]);
    assert_eq!(fewer, val.iter().filter(|key| key.as_str() < "a050").cloned().collect::<Vec<_>>());
    // Records that share a value stay together.
    set.write(&[&a, split, "by = \"who\"\n"]);
    let who = |part: &str| -> Vec<u64> {
        let mut who: Vec<u64> =
            set.show(part, &[]).iter().map(|record| record["who"].as_u64().unwrap()).collect();
        who.sort_unstable();
        who.dedup();
        who
    };
    let (train, val) = (who("x.train"), who("x.val"));
    assert!(train.iter().all(|one| !val.contains(one)), "{train:?} {val:?}");
    for (parts, said) in [
        ("{ train = 0.7, val = 0.2 }", "the shares add up to 0.8999999999999999, not to 1"),
        ("{ \"a b\" = 1.0 }", "`a b` is no name of a port"),
        ("{ train = 1.5, val = -0.5 }", "the share of `train` is 1.5, not between 0 and 1"),
    ] {
        set.write(&[&a, &format!("[nodes.x]\nkind = \"data.split\"\nin = \"a\"\nparts = {parts}\n")]);
        let error = set.error();
        assert!(error.contains(said), "{error}");
    }
    let error = set.0.heddle(&["data", "show", "x.toml", "x.test"]);
    assert_ne!(error.code, Some(0));
}

#[test]
fn join_takes_columns_by_key() {
    let set = Set::new();
    let a = set.source("a", &[json!({ "id": 1, "n": "one" }), json!({ "id": 2 }), json!({ "n": "none" })]);
    let b = set.source(
        "b",
        &[
            json!({ "id": 2, "score": 0.5 }),
            json!({ "id": 1, "score": 0.25, "n": "other" }),
            json!({ "id": 7 }),
        ],
    );
    let join = |more: &str| {
        let node = format!(
            "[nodes.x]\nkind = \"data.join\"\nin = {{ records = \"a\", with = \"b\" }}\non = \"id\"\n{more}"
        );
        set.write(&[&a, &b, &node]);
    };
    join("");
    let rows = set.show("x", &[]);
    let told: Vec<_> = rows.iter().map(|row| json!([row["key"], row["score"], row["n"]])).collect();
    assert_eq!(told, [json!(["a000.png", 0.25, "one"]), json!(["a001.png", 0.5, null])]);
    join("without = \"keep\"\n");
    let rows = set.show("x", &[]);
    assert_eq!((rows.len(), &rows[2]["score"]), (3, &Json::Null));
    join("without = \"fail\"\n");
    assert_eq!(set.error(), "error: node `x`: record `a002.png` has no value in column `id`");
    join("columns = [\"scroe\"]\n");
    assert_eq!(
        set.error(),
        "error: node `x`: no record under `with` has a column `scroe`; there are id, score, n"
    );
    join("columns = [\"n\"]\n");
    assert!(set.error().contains("`columns` names `n`, which the records have already"), "{}", set.error());
    let twice = set.source("b", &[json!({ "id": 2 }), json!({ "id": 2 })]);
    let node = "[nodes.x]\nkind = \"data.join\"\nin = { records = \"a\", with = \"b\" }\non = \"id\"\n";
    set.write(&[&a, &twice, node]);
    assert_eq!(
        set.error(),
        "error: node `x`: two records under `with` have `2` in column `id`: the ones at places 0 and 1, from 0"
    );
}

#[test]
fn join_takes_captions_when_asked() {
    let set = Set::new();
    let a = format!(
        "{}captions = {{ en = \"t\" }}\n",
        set.source("a", &[json!({ "id": 1, "t": "old" }), json!({ "id": 2, "t": "mine" })])
    );
    let b = format!("{}captions = {{ it = \"u\" }}\n", set.source("b", &[json!({ "id": 1, "u": "nuovo" })]));
    let node = "[nodes.x]\nkind = \"data.join\"\nin = { records = \"a\", with = \"b\" }\non = \"id\"\ncaptions = true\nwithout = \"keep\"\n";
    set.write(&[&a, &b, node]);
    let captions: Vec<_> = set.show("x", &[]).iter().map(|row| row["captions"].clone()).collect();
    assert_eq!(
        captions,
        [json!([{ "text": "nuovo", "language": "it" }]), json!([{ "text": "mine", "language": "en" }])]
    );
}

#[test]
fn languages_are_found() {
    let set = Set::new();
    let texts = [
        "a picture of a small dog in front of the old house",
        "una bella giornata con il sole sopra le nuvole bianche",
        "红苹果的图片和绿色的树叶",
        "かわいい猫の絵文字です",
        "صورة قطة صغيرة على السرير",
    ];
    let rows: Vec<Json> = texts.iter().map(|text| json!({ "t": text })).collect();
    let a = format!("{}captions = {{ und = \"t\" }}\n", set.source("a", &rows));
    set.write(&[&a, "[nodes.x]\nkind = \"data.language\"\nin = \"a\"\namong = [\"en\", \"it\", \"zh\", \"ja\", \"ar\"]\nconfidence = 0.1\n"]);
    let rows = set.show("x", &[]);
    let found: Vec<&str> = rows.iter().map(|row| row["language"].as_str().unwrap_or("-")).collect();
    assert_eq!(found, ["en", "it", "zh", "ja", "ar"]);
    assert_eq!(rows[1]["captions"][0]["language"], json!("it"));
    set.write(&[&a, "[nodes.x]\nkind = \"data.language\"\nin = \"a\"\namong = [\"en\", \"klingon\"]\n"]);
    assert!(set.error().contains("no such language: klingon"), "{}", set.error());
}

#[test]
fn a_plugin_finds_duplicates_within_and_against() {
    let dir = Dir::empty();
    dir.write(
        "x.toml",
        "schema = 1\n[nodes.pairs]\nkind = \"data.webdataset\"\nshards = \"embedded:emoji/train-0000.tar\"\nlimit = 300\n\
         [nodes.seen]\nkind = \"data.decode\"\nin = \"pairs\"\n\
         [nodes.dedup]\nkind = \"data.dedup\"\nin = \"seen\"\nplugin = \"embedded:plugins/phash-duplicates.wasm\"\n\
         [nodes.none]\nkind = \"data.dedup\"\nin = { records = \"seen\", against = \"seen\" }\nplugin = \"embedded:plugins/phash-duplicates.wasm\"\n\
         [nodes.by_hash]\nkind = \"data.deduplicate\"\nin = \"seen\"\nby = \"phash\"\ndistance = 0\n",
    );
    let rows = |node: &str| dir.done(&["data", "show", "x.toml", node, "--json"]).stdout.lines().count();
    let (kept, dropped) = (rows("dedup"), rows("dedup.dropped"));
    assert_eq!(kept + dropped, 300);
    assert!(kept < 300 && kept > 200, "{kept}");
    // Whatever distance the plugin allows, it finds at least what is equal.
    assert!(kept <= rows("by_hash"), "{kept}");
    assert_eq!((rows("none"), rows("none.dropped")), (0, 300));
}

#[test]
fn similarity_is_a_column_for_rules_to_look_at() {
    let dir = Dir::tiny();
    let text = dir.read(crate::util::TINY);
    assert!(text.contains("[nodes.stage1]"), "{text}");
    let more = "\n[nodes.alike]\nkind = \"data.similarity\"\ngraph = \"../graphs/tiny.toml\"\nweights = \"stage1\"\n\
                in = { records = \"told\", features = \"seen\", tokenizer = \"bpe\" }\ncolumn = \"score\"\n\
                [nodes.told]\nkind = \"data.webdataset\"\nshards = \"embedded:emoji/val-*.tar\"\nlimit = 40\ncaptions = { en = \"en\", it = \"it\" }\nimage = IMAGE\n\
                [nodes.seen]\nkind = \"features\"\ngraph = \"../graphs/tiny.toml\"\nweights = \"stage1\"\nin = \"told\"\n\
                [nodes.good]\nkind = \"data.filter\"\nin = \"alike\"\nplugin = \"embedded:plugins/score-threshold.wasm\"\nconfig = { min = 0.0 }\n";
    let image = text.lines().find_map(|line| {
        line.strip_prefix("image").map(|rest| rest.trim_start_matches([' ', '=']).to_owned())
    });
    dir.write(crate::util::TINY, format!("{text}{}", more.replace("IMAGE", &image.unwrap())));
    let rows = |node: &str, set: &[&str]| -> Vec<Json> {
        let shown = dir.done(&[&["data", "show", crate::util::TINY, node, "--json"], set].concat());
        shown.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let score = |row: &Json| row["score"].as_f64().unwrap();
    let (max, mean) = (rows("alike", &[]), rows("alike", &["-S", "nodes.alike.reduce=\"mean\""]));
    let english = rows("alike", &["-S", "nodes.alike.languages=[\"en\"]"]);
    assert_eq!(max.len(), 40);
    for ((max, mean), english) in max.iter().zip(&mean).zip(&english) {
        assert!((-1.0001..=1.0001).contains(&score(max)), "{max}");
        assert!(score(max) >= score(mean) - 1e-6 && score(max) >= score(english) - 1e-6);
    }
    assert!(max.iter().zip(&mean).any(|(max, mean)| score(max) > score(mean)));
    let good = rows("good", &[]).len();
    assert_eq!(good, max.iter().filter(|row| score(row) >= 0.0).count());
    let none = rows("alike", &["-S", "nodes.alike.languages=[\"fr\"]"]);
    assert!(none.iter().all(|row| row.get("score").is_none()));
}

#[test]
fn dialogues_come_from_columns() {
    let set = Set::new();
    let rows =
        [json!({ "name": "cat", "group": "animals" }), json!({ "group": "food" }), json!({ "name": 7 })];
    let a = set.source("a", &rows);
    let what = "[nodes.what]\nkind = \"data.dialogues\"\nin = \"a\"\nquestions = [\"What is this?\", \"Name it.\"]\nanswer = \"name\"\n";
    let group = "[nodes.group]\nkind = \"data.dialogues\"\nin = \"what\"\nabout = \"group\"\nquestions = [\"Which group?\"]\nanswer = \"group\"\n";
    set.write(&[&a, what, group]);
    let rows = set.show("group", &[]);
    let first = rows[0]["questions"][0]["question"].as_str().unwrap().to_owned();
    assert!(["What is this?", "Name it."].contains(&first.as_str()), "{first}");
    assert_eq!(
        rows[0]["conversations"],
        json!([
            { "from": "human", "value": format!("<image>\n{first}") },
            { "from": "gpt", "value": "cat" },
            { "from": "human", "value": "Which group?" },
            { "from": "gpt", "value": "animals" },
        ])
    );
    assert_eq!(
        rows[0]["questions"],
        json!([
            { "kind": "what", "question": first, "answer": "cat" },
            { "kind": "group", "question": "Which group?", "answer": "animals" },
        ])
    );
    // The picture is shown with the first question that a record has.
    assert_eq!(rows[1]["conversations"][0]["value"], json!("<image>\nWhich group?"));
    assert_eq!(rows[1]["questions"].as_array().map(Vec::len), Some(1));
    assert_eq!(rows[2]["questions"][0]["answer"], json!("7"));
    set.write(&[&a, &what.replace("\"name\"", "\"nam\"")]);
    assert!(set.error().contains("no record has a text in column `nam` (`answer`)"), "{}", set.error());
}
