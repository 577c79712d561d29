use std::collections::BTreeMap;

use super::*;
use crate::{
    image::{DecodeLimits, decode},
    record::Record,
    shard::{Shard, Shards},
    text::dialogue::Round,
    webdataset::{ScanOptions, scan},
};

fn options() -> SceneOptions {
    SceneOptions {
        canvas: 96,
        grid: 3,
        objects: [1, 5],
        languages: ["en", "zh", "ja", "ar", "it"].map(str::to_owned).into(),
        turns: 9,
        answer_prompt: SHORT_ANSWER.to_owned(),
        seed: 1,
        salt: String::new(),
    }
}

fn shard() -> Shard {
    Shard::embedded("test-id-0000.tar").unwrap()
}

fn records() -> Vec<Record> {
    scan(&shard(), &ScanOptions::default()).records
}

fn scenes(options: SceneOptions) -> Scenes {
    Scenes::new(Pool::new(records(), &options.languages).unwrap(), options)
}

fn painted(scenes: &Scenes, scene: &Scene) -> Painting {
    let shards: Shards = [shard()].into_iter().collect();
    let picture = |object: &Object| {
        let bytes = shards.bytes(&scenes.pool().sprite(object.sprite).part).unwrap();
        decode(&bytes, &DecodeLimits::default()).unwrap()
    };
    paint(scene, scenes.options.canvas, &scene.objects.iter().map(picture).collect::<Vec<_>>())
}

/// The questions of a column.
fn questions(description: &Description) -> Vec<&Map<String, Value>> {
    description.columns["questions"].as_array().unwrap().iter().map(|one| one.as_object().unwrap()).collect()
}

#[test]
fn a_scene_is_fixed() {
    let scenes = scenes(options());
    let description = scenes.describe(&scenes.plan(3));
    let captions: Vec<String> = description.captions.iter().map(|caption| caption.text.clone()).collect();
    insta::assert_snapshot!(captions.join("\n"));
    let asked = questions(&description);
    let asked = asked.iter().map(|one| {
        let text = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or("-");
        format!("{} {}: {} -> {}", text("kind"), text("setting"), text("question"), text("answer"))
    });
    insta::assert_snapshot!(asked.collect::<Vec<_>>().join("\n").replace(SHORT_ANSWER, ""));
    insta::assert_json_snapshot!(description.columns["objects"]);
}

#[test]
fn a_scene_depends_on_seed_salt_and_number_alone() {
    let first = scenes(options());
    let mut reversed = records();
    reversed.reverse();
    let again = Scenes::new(Pool::new(reversed, &options().languages).unwrap(), options());
    for index in [0, 7, 1_000_000] {
        let (one, other) = (first.plan(index), again.plan(index));
        assert_eq!(one, other);
        assert_eq!(first.describe(&one), again.describe(&other));
    }
    assert_ne!(first.plan(0).objects, first.plan(1).objects);
    for other in [SceneOptions { seed: 2, ..options() }, SceneOptions { salt: "x".into(), ..options() }] {
        assert_ne!(first.plan(0), Scene { index: 0, ..scenes(other).plan(0) });
    }
}

#[test]
fn masks_hold_the_classes_of_what_is_there() {
    let scenes = scenes(options());
    let mut pixels: BTreeMap<&str, usize> = BTreeMap::new();
    for index in 0..40 {
        let scene = scenes.plan(index);
        let Painting { picture, mask } = painted(&scenes, &scene);
        assert_eq!((picture.dimensions(), mask.dimensions()), ((96, 96), (96, 96)));
        for value in mask.as_raw() {
            assert!([0, UNDECIDED].contains(value) || scene.count(*value) > 0, "{value} in {scene:?}");
            let name = match *value {
                0 => "background",
                UNDECIDED => "undecided",
                _ => "class",
            };
            *pixels.entry(name).or_default() += 1;
        }
        // Nothing is painted where there is no object.
        let (top, first) = (scene.colours[0], &scene.objects[0]);
        if first.row > 0 {
            assert_eq!((picture.get_pixel(0, 0).0, mask.get_pixel(0, 0).0), (top, [0]));
        }
    }
    let total = (40 * 96 * 96) as f64;
    let share = |name: &str| 100.0 * pixels[name] as f64 / total;
    assert!((70.0..92.0).contains(&share("background")), "{pixels:?}");
    assert!((0.3..2.0).contains(&share("undecided")), "{pixels:?}");
}

#[test]
fn a_larger_canvas_has_larger_things() {
    let scenes = scenes(SceneOptions { canvas: 192, objects: [9, 9], ..options() });
    let scene = scenes.plan(0);
    assert_eq!(scene.objects.len(), 9);
    assert!(scene.objects.iter().all(|object| (48..=76).contains(&object.size)));
    assert_eq!(painted(&scenes, &scene).picture.dimensions(), (192, 192));
}

#[test]
fn a_smaller_grid_names_its_own_places() {
    let two = scenes(SceneOptions { canvas: 64, grid: 2, objects: [4, 4], ..options() });
    let scene = two.plan(0);
    let cells: Vec<(u32, u32)> = scene.objects.iter().map(|object| (object.row, object.col)).collect();
    assert_eq!(cells, [(0, 0), (0, 1), (1, 0), (1, 1)]);
    assert!(scene.objects.iter().all(|object| (24..=38).contains(&object.size)));
    let asked = |scenes: &Scenes, index: u64| {
        let description = scenes.describe(&scenes.plan(index));
        let all =
            questions(&description).iter().map(|one| one["question"].as_str().unwrap().to_owned()).collect();
        let all: Vec<String> = all;
        all.into_iter().filter(|question| question.starts_with("What kind")).collect::<Vec<_>>()
    };
    let corners = ["top left", "top right", "bottom left", "bottom right"];
    for question in (0..20).flat_map(|index| asked(&two, index)) {
        assert!(corners.iter().any(|corner| question.contains(corner)), "{question}");
    }
    let one = scenes(SceneOptions { canvas: 32, grid: 1, objects: [1, 1], ..options() });
    assert!(asked(&one, 0)[0].contains("in the centre"));
    assert_eq!(painted(&one, &one.plan(0)).picture.dimensions(), (32, 32));
}

#[test]
fn answers_are_right_and_balanced() {
    let scenes = scenes(options());
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for index in 0..400 {
        let scene = scenes.plan(index);
        let description = scenes.describe(&scene);
        let names: Vec<&str> =
            scene.objects.iter().map(|object| scenes.pool().sprite(object.sprite).name()).collect();
        for one in questions(&description) {
            let text = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default();
            let (question, answer) = (text("question"), text("answer"));
            match text("kind") {
                "existence" => {
                    let asked = question.strip_prefix("Is there a").unwrap().split(" in the picture").next();
                    let asked = asked.unwrap().trim_start_matches("n ").trim_start();
                    assert_eq!(names.contains(&asked), answer == "yes", "{question} {names:?}");
                    *told.entry(format!("{} {answer}", text("setting"))).or_default() += 1;
                }
                "count" => *told.entry(format!("count {answer}")).or_default() += 1,
                "relation" => assert!(names.contains(&answer)),
                _ => {}
            }
        }
        assert!(description.captions.iter().filter(|c| c.language.as_deref() == Some("en")).count() >= 5);
    }
    let count = |what: &str| told.get(what).copied().unwrap_or_default();
    for setting in ["random", "popular", "adversarial"] {
        let (yes, no) = (count(&format!("{setting} yes")), count(&format!("{setting} no")));
        assert!(yes == no && (100..170).contains(&yes), "{told:?}");
    }
    for (answer, range) in [("0", 80..160), ("1", 80..160), ("2", 50..120), ("3", 30..90), ("4", 10..60)] {
        assert!(range.contains(&count(&format!("count {answer}"))), "{told:?}");
    }
}

#[test]
fn dialogues_have_the_picture_first_and_no_more_than_their_rounds() {
    for turns in [1, 3, 9] {
        let scenes = scenes(SceneOptions { turns, ..options() });
        for index in 0..20 {
            let description = scenes.describe(&scenes.plan(index));
            let rounds = Round::list(&description.columns["conversations"]).unwrap();
            assert!(rounds.len() == turns.min(questions(&description).len()));
            assert!(rounds[0].question.starts_with("<image>\n"));
            assert!(rounds[1..].iter().all(|round| !round.question.contains("<image>")));
        }
    }
}

#[test]
fn short_answers_are_asked_for_as_it_is_set() {
    let (usual, bare) =
        (scenes(options()), scenes(SceneOptions { answer_prompt: String::new(), ..options() }));
    let asked = |scenes: &Scenes| -> Vec<String> {
        let description = scenes.describe(&scenes.plan(3));
        questions(&description).iter().map(|one| one["question"].as_str().unwrap().to_owned()).collect()
    };
    let cut = asked(&usual).into_iter().map(|question| question.replace(SHORT_ANSWER, ""));
    assert_eq!(cut.collect::<Vec<_>>(), asked(&bare));
    let (prompted, all) =
        (asked(&usual).iter().filter(|one| one.ends_with(SHORT_ANSWER)).count(), asked(&bare).len());
    assert_eq!(prompted, all - 1, "all but the one about a caption");
}

#[test]
fn records_that_do_not_do_are_named() {
    let told = |records: Vec<Record>, languages: &[&str]| {
        let languages: Vec<String> = languages.iter().map(|language| (*language).to_owned()).collect();
        Pool::new(records, &languages).unwrap_err().to_string()
    };
    let mut nameless = records();
    nameless.iter_mut().for_each(|record| record.columns.retain(|name, _| name != "it"));
    let mut other = records();
    other.iter_mut().for_each(|record| record.columns.retain(|name, _| name != "subgroup"));
    let first = |records: &[Record]| {
        let of_class = |record: &&Record| class_of(record.columns["subgroup"].as_str().unwrap()).is_some();
        records.iter().find(of_class).unwrap().key.clone()
    };
    let key = first(&nameless);
    assert_eq!(told(nameless, &["it"]), format!("record `{key}` has no name in the column `it`"));
    insta::assert_snapshot!(told(other, &["en"]), @"none of the 500 records has a column `subgroup` with one of the emoji subgroups that scenes show");
}

/// Scenes that were made once are made again, on every machine.
#[test]
fn pictures_are_the_same_everywhere() {
    let scenes = scenes(options());
    let mut hasher = blake3::Hasher::new();
    for index in 0..8 {
        let Painting { picture, mask } = painted(&scenes, &scenes.plan(index));
        hasher.update(picture.as_raw()).update(mask.as_raw());
    }
    insta::assert_snapshot!(hasher.finalize().to_hex());
}
