//! Scenes, and what is exported of them.

use serde_json::Value as Json;

use crate::util::Dir;

const SCENES: &str = "schema = 1\nseed = 3\n\
    [nodes.heldout]\nkind = \"data.webdataset\"\nshards = \"embedded:emoji/test-id-*.tar\"\n\
    [nodes.scenes]\nkind = \"data.scenes\"\nin = \"heldout\"\ncount = 6\nturns = 3\nimage = { size = 96 }\n";

fn scenes() -> Dir {
    let dir = Dir::empty();
    dir.write("x.toml", SCENES);
    dir
}

fn shown(dir: &Dir, arguments: &[&str]) -> Vec<Json> {
    let shown = dir.done(&[&["data", "show", "--json"], arguments].concat());
    shown.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn more_scenes_leave_the_first_ones_as_they_are() {
    let dir = scenes();
    let few = shown(&dir, &["x.toml", "scenes"]);
    assert_eq!(few.len(), 6);
    let first = &few[0];
    assert_eq!(
        (&first["key"], &first["split"], &first["size"][0]),
        (&"scenes-000000".into(), &"test-id".into(), &96.into())
    );
    for column in ["en", "zh", "ja", "ar", "it"] {
        assert!(first[column].is_string(), "{first}");
    }
    let more = shown(&dir, &["x.toml", "scenes", "-S", "nodes.scenes.count=8", "-n", "99"]);
    let told = |record: &Json| {
        let mut record = record.clone();
        record.as_object_mut().unwrap().retain(|name, _| !["shard", "parts"].contains(&name.as_str()));
        record
    };
    assert_eq!(few.iter().map(told).collect::<Vec<_>>(), more[..6].iter().map(told).collect::<Vec<_>>());
    let other = shown(&dir, &["x.toml", "scenes", "-S", "nodes.scenes.salt=other"]);
    assert_ne!(other[0]["objects"], first["objects"]);
}

#[test]
fn scenes_are_exported_and_read_again() {
    let dir = scenes();
    for format in ["masks", "llava", "coco"] {
        dir.done(&["data", "export", "x.toml", "scenes", "-o", format, "--format", format]);
    }
    let scenes = shown(&dir, &["x.toml", "scenes"]);
    dir.write(
        "y.toml",
        "schema = 1\n[nodes.masks]\nkind = \"data.masks\"\nfolder = \"masks\"\n\
         [nodes.llava]\nkind = \"data.llava\"\nconversations = \"llava/conversations.json\"\nfolder = \"llava/images\"\n\
         [nodes.coco]\nkind = \"data.coco\"\nannotations = \"coco/captions.json\"\nfolder = \"coco/images\"\n",
    );
    let masks = shown(&dir, &["y.toml", "masks"]);
    assert_eq!((masks.len(), &masks[0]["split"]), (6, &Json::from("test-id")));
    let mask =
        image::open(dir.path().join("masks/annotations/test-id/scenes-000000.png")).unwrap().into_luma8();
    assert!(mask.as_raw().iter().any(|class| (1..=25).contains(class)));
    assert!(mask.as_raw().iter().all(|class| *class <= 25 || *class == 255));
    let dialogues = shown(&dir, &["y.toml", "llava"]);
    for (dialogue, scene) in dialogues.iter().zip(&scenes) {
        assert_eq!(dialogue["conversations"], scene["conversations"]);
        assert_eq!(dialogue["conversations"].as_array().unwrap().len(), 6);
    }
    let captions = shown(&dir, &["y.toml", "coco"]);
    assert_eq!(captions[0]["captions"].as_array().unwrap().len(), 9);
}

#[test]
fn wrong_scenes_are_refused() {
    let dir = scenes();
    let told = |set: &str| {
        let ended = dir.heddle(&["run", "x.toml", "-S", set]);
        assert_ne!(ended.code, Some(0), "{ended}");
        ended.stderr.lines().find(|line| line.starts_with("error")).unwrap_or_default().to_owned()
    };
    let all = [
        told("nodes.scenes.canvas=100"),
        told("nodes.scenes.objects=[3,2]"),
        told("nodes.scenes.objects=[1,10]"),
        told("nodes.scenes.languages=[\"fr\"]"),
    ];
    insta::assert_snapshot!(all.join("\n"), @r"
    error: 100 pixels do not divide into 3 cells
    error: expected two numbers from 1 to 9, the smaller first
    error: expected two numbers from 1 to 9, the smaller first
    error: node `scenes`: record `1f691_emojitwo` has no name in the column `fr`
    ");
}
