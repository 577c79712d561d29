//! How two files become one: tables merge, everything else is replaced, the later wins.
//!
//! Where files agree on what is a table this is associative, so it does not matter how a chain of includes is
//! bracketed; property tests hold it to that. Where a value stands between two tables, the last table alone is left.

use super::value::{Entry, Table, Value, ValueKind};

/// Puts `later` over `base`. Keys of `base` keep their order, new keys follow; places are those of `later`.
pub fn merge(base: &mut Table, later: Table) {
    for (key, entry) in later {
        match base.get_mut(&key) {
            Some(existing) => merge_entry(existing, entry),
            None => {
                base.insert(key, entry);
            }
        }
    }
}

fn merge_entry(existing: &mut Entry, later: Entry) {
    let Value { kind, span, via } = later.value;
    existing.key_span = later.key_span;
    existing.value.span = span;
    existing.value.via = via;
    match (&mut existing.value.kind, kind) {
        (ValueKind::Table(base), ValueKind::Table(later)) => merge(base, later),
        (base, later) => *base = later,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::value::{parse, table_json},
        diagnostic::Problems,
        source::Sources,
    };

    /// Tables of tables over few keys, so that they meet; `t` and `u` are always tables, `a` and `b` never.
    fn tables() -> impl Strategy<Value = String> {
        let line = ("([tu]\\.){0,2}[ab]", "1|2|true|\\[3\\]|'x'");
        proptest::collection::vec(line, 0..6)
            .prop_map(|lines| lines.into_iter().map(|(key, value)| format!("{key} = {value}\n")).collect())
    }

    fn table(text: &str) -> Table {
        let mut sources = Sources::new();
        let source = sources.add("t.toml", text);
        parse(source, &sources, &mut Problems::default())
    }

    fn merged(base: &Table, later: &Table) -> Table {
        let mut base = base.clone();
        merge(&mut base, later.clone());
        base
    }

    #[test]
    fn a_value_between_two_tables_leaves_the_last() {
        let all = merged(&merged(&table("t.a = 1"), &table("t = 2")), &table("t.b = 3"));
        assert_eq!(table_json(&all), serde_json::json!({ "t": { "b": 3 } }));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn merging_is_associative(a in tables(), b in tables(), c in tables()) {
            let (a, b, c) = (table(&a), table(&b), table(&c));
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        }

        #[test]
        fn the_later_wins(a in tables(), b in tables()) {
            let (a, b) = (table(&a), table(&b));
            let both = merged(&a, &b);
            prop_assert_eq!(table_json(&merged(&both, &b)), table_json(&both));
            for (key, entry) in b.iter().filter(|(_, entry)| entry.value.as_table().is_none()) {
                prop_assert_eq!(&both[key], entry);
            }
        }
    }
}
