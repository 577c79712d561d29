//! `model.safetensors.index.json`: which shard holds a tensor.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

/// Shard by name of the tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index(pub BTreeMap<String, String>);

impl Index {
    /// Reads an index; the error is a phrase.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let json: Json = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let map = json.get("weight_map").and_then(Json::as_object).ok_or("it has no table `weight_map`")?;
        let entry = |(name, shard): (&String, &Json)| match shard.as_str() {
            Some(shard) => Ok((name.clone(), shard.to_owned())),
            None => Err(format!("the shard of `{name}` is no text")),
        };
        map.iter().map(entry).collect::<Result<_, _>>().map(Self)
    }

    /// The index as a file, for tensors of this many bytes in all.
    pub fn to_json(&self, total_bytes: usize) -> String {
        let index = json!({ "metadata": { "total_size": total_bytes }, "weight_map": self.0 });
        format!("{index:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_wrong_is_told() {
        let index = Index(BTreeMap::from([("a.weight".into(), "model-00001-of-00001.safetensors".into())]));
        assert_eq!(Index::parse(index.to_json(4).as_bytes()), Ok(index));
        let error = |text: &str| Index::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error("{}"), "it has no table `weight_map`");
        assert_eq!(error(r#"{"weight_map": {"a": 1}}"#), "the shard of `a` is no text");
        assert!(error("{").contains("EOF"));
    }
}
