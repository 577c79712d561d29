//! Nodes that clean data: the cleaning experiment, expressions, duplicates, images.

use crate::util::{Dir, repository};

/// What the report says of the experiment that the README names: counts, precision and recall of every rule.
#[test]
fn the_cleaning_experiment_reports_what_its_rules_find() {
    let dir = Dir::empty();
    let file = repository().join("experiments/cleaning.toml");
    let home = dir.path().join("home");
    let (file, home) = (file.to_str().unwrap(), home.to_str().unwrap());
    let run = dir.done(&["run", file, "--home", home, "--quiet"]);
    let report = run.stdout.split("artifacts:").next().unwrap();
    let report: Vec<&str> = report.lines().filter(|line| !line.starts_with("done:")).collect();
    insta::assert_snapshot!(report.join("\n"));
    let again = dir.done(&["run", file, "--home", home]);
    assert!(again.stderr.contains("nothing to do"), "{again}");
}

const SOURCE: &str = r#"
schema = 1

[nodes.pairs]
kind   = "data.webdataset"
shards = "embedded:emoji/val-*.tar"
captions = { en = "en", zh = "zh" }
"#;

/// Runs nodes behind the source and gives what was said.
fn with(nodes: &str) -> (Option<i32>, String) {
    let dir = Dir::empty();
    dir.write("x.toml", format!("{SOURCE}\n{nodes}"));
    let run = dir.heddle(&["run", "x.toml"]);
    (run.code, run.stderr)
}

/// How many records stay.
fn stay(nodes: &str) -> String {
    let (code, said) = with(nodes);
    assert_eq!(code, Some(0), "{said}");
    let line = said.lines().find(|line| line.contains("records stay")).unwrap();
    line.split(": ").nth(1).unwrap().to_owned()
}

fn holds(expression: &str) -> String {
    format!("[nodes.x]\nkind = \"data.where\"\nin = \"pairs\"\nexpression = '''{expression}'''\n")
}

#[test]
fn expressions_see_columns_and_captions() {
    assert_eq!(stay(&holds("true")), "192 of 192 records stay");
    let noto = stay(&holds("vendor == 'noto'"));
    let others = stay(&holds("vendor != 'noto'"));
    let count = |text: &str| text.split(' ').next().unwrap().parse::<u32>().unwrap();
    assert!(count(&noto) > 0 && count(&noto) + count(&others) == 192, "{noto}, {others}");
    assert_eq!(
        stay(&holds("captions.all(c, c.language in ['en', 'zh']) && size(captions) == 2")),
        "192 of 192 records stay"
    );
}

#[test]
fn mistakes_in_expressions_are_told() {
    let said = |expression: &str, more: &str| {
        let (code, said) = with(&format!("{}{more}", holds(expression)));
        let lines = said.lines().filter(|line| {
            !line.starts_with("run ") && !line.starts_with("done  pairs") && !line.contains("note ")
        });
        format!("{code:?}\n{}", lines.collect::<Vec<_>>().join("\n"))
    };
    insta::assert_snapshot!(
        [
            said("vendor = 'noto'", ""),
            said("vendr == 'noto'", ""),
            said("vendor > 3", ""),
            said("vendor", ""),
        ]
        .join("\n----\n")
    );
    assert!(said("vendor > 3", "on-error = \"drop\"\n").contains("Some(0)"));
}

#[test]
fn records_of_another_set_do_not_stay() {
    let same = "[nodes.x]\nkind = \"data.deduplicate\"\nin = { records = \"pairs\", against = \"pairs\" }\n";
    assert_eq!(stay(same), "0 of 192 records stay");
    let alone = "[nodes.x]\nkind = \"data.deduplicate\"\nin = \"pairs\"\n";
    assert_eq!(stay(alone), "192 of 192 records stay");
    let (code, said) = with("[nodes.x]\nkind = \"data.deduplicate\"\nin = \"pairs\"\nby = \"phash\"\n");
    assert_eq!(code, Some(1));
    assert!(said.contains("the records have no column `phash`; `data.decode` finds it"), "{said}");
}
