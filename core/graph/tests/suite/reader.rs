//! Parameters: canonical form, defaults, what is left out.

use heddle_graph::{
    MapLoader,
    config::{Reader, read_toml},
    source::Sources,
};
use indexmap::IndexMap;
use serde_json::json;

fn check<T>(
    text: &str,
    read: impl FnOnce(&mut Reader<'_>) -> T,
) -> Result<(T, heddle_graph::config::Reading), String> {
    read_toml("t.toml", text, &MapLoader::new(), &mut Sources::new(), read).map_err(|wrong| wrong.to_string())
}

#[test]
fn canonical_form_holds_defaults_in_one_spelling() {
    let read = |r: &mut Reader<'_>| {
        let lr: f64 = r.field("lr", "").positive().or(1.0);
        let width: usize = r.field("width", "").min(1).or(3200);
        let log: usize = r.field("log", "").not_in_key("no effect").or(1);
        let pool: Option<usize> = r.field("pool", "").optional();
        (lr, width, log, pool)
    };
    let (_, written) = check("width = 3200\nlr = 1\nlog = 5", read).unwrap();
    let (_, absent) = check("", read).unwrap();
    assert_eq!(written.canonical, absent.canonical);
    assert_eq!(serde_json::Value::Object(absent.canonical), json!({ "lr": 1.0, "width": 3200 }));
    assert_eq!(absent.left_out, [("log".to_owned(), "no effect")]);
}

#[test]
fn nested_tables_nest_in_the_canonical_form() {
    let (value, reading) = check("[b.y]\nn = 2\n[b.x]\n[o]\n", |r| {
        let optional = r.optional_table("o", "", |r| r.field("k", "").or(true));
        let missing = r.optional_table("p", "", |r| r.field("k", "").or(true));
        let tables = r.tables("b", "", |r| r.field::<u32>("n", "").or(1));
        let map: IndexMap<String, f64> = r.map("loss", "");
        (optional, missing, tables, map)
    })
    .unwrap();
    assert_eq!((value.0, value.1), (Some(true), None));
    assert_eq!(value.2.values().copied().collect::<Vec<_>>(), [2, 1]);
    let expected = json!({ "b": { "x": { "n": 1 }, "y": { "n": 2 } }, "loss": {}, "o": { "k": true } });
    assert_eq!(serde_json::to_string(&reading.canonical).unwrap(), expected_sorted(expected));
}

fn expected_sorted(mut json: serde_json::Value) -> String {
    json.sort_all_objects();
    json.to_string()
}

#[test]
fn numbers_are_checked() {
    let small = |text: &str| check(text, |r| r.field::<u8>("a", "").required()).map(|(value, _)| value);
    assert_eq!(small("a = 255"), Ok(255));
    for (text, expected) in [
        ("a = 256", "256 is out of range"),
        ("a = -1", "-1 is out of range"),
        ("a = 1.0", "expected an integer, found a float"),
        ("a = 99999999999999999999", "integer is out of range"),
        ("", "missing key `a`"),
    ] {
        assert!(small(text).unwrap_err().contains(expected), "{text}");
    }
    let float = |text: &str| check(text, |r| r.field::<f64>("a", "").required()).map(|(value, _)| value);
    assert_eq!(float("a = 1_000.5"), Ok(1000.5));
    assert_eq!(float("a = -3"), Ok(-3.0));
    assert!(float("a = nan").is_err());
    assert!(float("a = -inf").is_err());
    assert!(float("a = 1e999").unwrap_err().contains("out of range"));
}

#[test]
fn one_pass_reports_everything() {
    let wrong = check("a = 1\nb = \"x\"\nzzz = 1\n[t]\nc = true\nd = 1", |r| {
        r.field::<String>("a", "").required();
        r.field::<usize>("b", "").or(1);
        r.field::<usize>("missing", "").required();
        r.table("t", "", |r| r.field::<f64>("c", "").required());
    })
    .unwrap_err();
    assert_eq!(wrong.matches(';').count(), 5, "{wrong}");
}
