//! Sources other than tar shards: folders of pictures with what describes them.

use crate::util::Dir;

/// Three files that stand for pictures; nothing here decodes them.
fn with_pictures() -> Dir {
    let dir = Dir::empty();
    for name in ["cat/1.png", "cat/2.png", "dog/3.png"] {
        dir.write(&format!("images/{name}"), format!("bytes of {name}"));
    }
    dir
}

/// Runs a source with `data.where` behind it; how many records stay, or what went wrong.
fn stay(dir: &Dir, source: &str, expression: &str) -> String {
    let behind =
        format!("[nodes.x]\nkind = \"data.where\"\nin = \"s\"\nexpression = \"\"\"{expression}\"\"\"\n");
    dir.write("x.toml", format!("schema = 1\n[nodes.s]\n{source}\n{behind}"));
    let run = dir.heddle(&["run", "x.toml"]);
    let line = |wanted: fn(&str) -> bool| run.stderr.lines().find(|line| wanted(line));
    let found = line(|line| line.contains("records stay")).or_else(|| line(|line| line.starts_with("error")));
    found.unwrap_or_default().trim_start_matches("note  x: ").to_owned()
}

#[test]
fn class_folders_give_classes_and_a_changed_picture_changes_the_key() {
    let dir = with_pictures();
    let source = "kind = \"data.class-folders\"\nfolder = \"images\"\n";
    assert_eq!(stay(&dir, source, "class == 'cat' && label == 0"), "2 of 3 records stay");
    let plan = || dir.heddle(&["plan", "x.toml"]);
    assert_eq!(plan().code, Some(0), "{}", plan());
    // The same content elsewhere is the same data.
    std::fs::rename(dir.path().join("images"), dir.path().join("pictures")).unwrap();
    dir.edit("x.toml", "\"images\"", "\"pictures\"");
    assert_eq!(plan().code, Some(0), "{}", plan());
    dir.write("pictures/dog/4.png", "another");
    assert_eq!(plan().code, Some(2), "{}", plan());
    assert!(dir.done(&["run", "x.toml"]).stderr.contains("2 of 4 records stay"));
    // A folder that is not there, and a file in its place.
    for (path, said) in
        [("nowhere", "no such folder: `nowhere`"), ("x.toml", "a file, and a folder is wanted: `x.toml`")]
    {
        let source = format!("kind = \"data.class-folders\"\nfolder = \"{path}\"\n");
        assert_eq!(stay(&dir, &source, "true"), format!("error: `folder`: {said}"));
    }
}

#[test]
fn tables_and_coco_name_what_they_skip() {
    let dir = with_pictures();
    dir.write("pairs.csv", "filepath,title\ncat/1.png,a cat\ndog/9.png,gone\n");
    let table =
        "kind = \"data.table\"\nfile = \"pairs.csv\"\nfolder = \"images\"\ncaptions = { en = \"title\" }\n";
    let said = stay(&dir, table, "true");
    assert!(said.contains("1 members are broken, 0 are allowed (`max-bad`)"), "{said}");
    let allowed = format!("{table}max-bad = 1\n");
    let english = "captions[0].text == 'a cat' && captions[0].language == 'en'";
    assert_eq!(stay(&dir, &allowed, english), "1 of 1 records stay");
    let coco = "kind = \"data.coco\"\nannotations = \"c.json\"\nfolder = \"images\"\nlanguage = \"en\"\n";
    dir.write(
        "c.json",
        r#"{"images": [{"id": 1, "file_name": "dog/3.png", "width": 2, "height": 1}],
            "annotations": [{"id": 5, "image_id": 1, "caption": "a dog"}]}"#,
    );
    let seen = "width == 2 && captions[0].text == 'a dog' && image_id == 1";
    assert_eq!(stay(&dir, coco, seen), "1 of 1 records stay");
    dir.write("c.json", "{\"images\": [],\n  oops}");
    let said = stay(&dir, coco, "true");
    assert!(said.contains("the annotations are not COCO's: line 2, column 3"), "{said}");
}
