//! `labels`: the column of the records that says their class.

use std::collections::BTreeSet;

use heddle_data::Record;
use heddle_graph::config::Reader;
use serde_json::Value as Json;

use crate::exec::NodeError;

/// Where classes come from, as a node sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    column: String,
    /// The classes in the order of their numbers, if the column has names.
    names: Vec<String>,
}

/// Reads the table `labels`; none if the file has none.
pub fn read_labels(r: &mut Reader<'_>) -> Option<Labels> {
    r.optional_table("labels", "the classes of the records", |r| {
        let column: String =
            r.field("column", "column with a number from 0 on, or a name of `classes`").required();
        let names: Vec<String> =
            r.field("classes", "names of the classes, in the order of their numbers").or(Vec::new());
        let mut known = names.clone();
        known.sort();
        known.dedup();
        if known.len() < names.len() {
            r.error("classes", "a class is there twice", Some("each name stands for one number"));
        }
        Labels { column, names }
    })
}

impl Labels {
    /// The class of a record; none if it has none, and then it does not count.
    ///
    /// # Errors
    /// If what the column says is no class.
    pub fn class(&self, record: &Record) -> Result<Option<u32>, NodeError> {
        let Self { column, names } = self;
        let wrong = |found: &Json, help: String| {
            NodeError::Other(format!("record `{}`: column `{column}` has {found}; {help}", record.key))
        };
        match record.column(column) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(name)) => {
                let place = names.iter().position(|known| known == name);
                let help = || match names.is_empty() {
                    true => "name the classes in their order: `labels.classes = [...]`".to_owned(),
                    false => format!("`labels.classes` has {}", names.join(", ")),
                };
                let wrong = || wrong(&Json::String(name.clone()), help());
                place.map(|place| Some(place as u32)).ok_or_else(wrong)
            }
            Some(found) => {
                let number = found.as_u64().and_then(|number| u32::try_from(number).ok());
                let known = number.filter(|number| names.is_empty() || (*number as usize) < names.len());
                let help = match names.len() {
                    0 => "a class is a whole number from 0 on".to_owned(),
                    count => format!("the {count} classes have the numbers from 0 on"),
                };
                known.map(Some).ok_or_else(|| wrong(found, help))
            }
        }
    }

    /// Fails, with the columns that there are, if no record has a class.
    ///
    /// # Errors
    /// That, or if the records do not read.
    pub fn require<E>(&self, records: impl IntoIterator<Item = Result<Record, E>>) -> Result<(), NodeError>
    where
        NodeError: From<E>,
    {
        let mut known = BTreeSet::new();
        for record in records {
            let record = record?;
            if self.class(&record)?.is_some() {
                return Ok(());
            }
            known.extend(record.columns.keys().cloned());
        }
        let known: Vec<String> = known.into_iter().collect();
        let column = &self.column;
        Err(NodeError::Other(format!(
            "no record has a class in a column `{column}`; there are {}",
            known.join(", ")
        )))
    }

    /// How many classes there are, if they have names.
    pub fn count(&self) -> Option<usize> {
        (!self.names.is_empty()).then_some(self.names.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn class(names: &[&str], value: Option<Json>) -> Result<Option<u32>, String> {
        let labels =
            Labels { column: "kind".into(), names: names.iter().map(|name| (*name).to_owned()).collect() };
        let columns = value.map(|value| ("kind".to_owned(), value)).into_iter().collect();
        let record = Record::new("a".to_owned(), [0; 32], BTreeMap::new(), columns);
        labels.class(&record).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_and_names_are_classes() {
        assert_eq!(class(&[], Some(json!(7))), Ok(Some(7)));
        assert_eq!(class(&["cat", "dog"], Some(json!("dog"))), Ok(Some(1)));
        assert_eq!(class(&["cat", "dog"], Some(json!(0))), Ok(Some(0)));
        assert_eq!(class(&["cat"], Some(Json::Null)), Ok(None));
        assert_eq!(class(&["cat"], None), Ok(None));
    }

    #[test]
    fn what_is_no_class_is_named() {
        let wrong = [
            class(&["cat", "dog"], Some(json!("cow"))),
            class(&[], Some(json!("cow"))),
            class(&["cat"], Some(json!(1))),
            class(&[], Some(json!(-1))),
            class(&[], Some(json!(0.5))),
        ];
        let said: Vec<String> = wrong.into_iter().filter_map(Result::err).collect();
        insta::assert_snapshot!(said.join("\n"), @r#"
        record `a`: column `kind` has "cow"; `labels.classes` has cat, dog
        record `a`: column `kind` has "cow"; name the classes in their order: `labels.classes = [...]`
        record `a`: column `kind` has 1; the 1 classes have the numbers from 0 on
        record `a`: column `kind` has -1; a class is a whole number from 0 on
        record `a`: column `kind` has 0.5; a class is a whole number from 0 on
        "#);
    }
}
