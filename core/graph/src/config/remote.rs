//! The URL of a remote cache.

use super::{
    from_value::{FromValue, Wrong},
    value::Value,
};

/// Where a remote cache is: a folder or a bucket, as a URL. Whether a build can reach it is not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteUrl(pub String);

const EXAMPLE: &str = "for example \"file:///shared/heddle\", \"s3://bucket/prefix\", \"gs://bucket/prefix\" or \
                       \"az://container/prefix\"";

/// What the URLs begin with.
const SCHEMES: [&str; 4] = ["file:///", "s3://", "gs://", "az://"];

impl FromValue for RemoteUrl {
    fn ty() -> String {
        "URL".to_owned()
    }

    fn from_value(value: &Value) -> Result<Self, Wrong> {
        let text = value.as_str().ok_or_else(|| Wrong::ty(value, "URL").help(EXAMPLE))?;
        let place = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme));
        match place {
            Some(place) if !place.is_empty() => Ok(Self(text.to_owned())),
            _ => Err(Wrong::new(value, format!("`{text}` is no URL of a remote cache")).help(EXAMPLE)),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        self.0.clone().into()
    }

    fn placeholder() -> Self {
        Self("file:///shared/heddle".to_owned())
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^(file:///|s3://|gs://|az://)." })
    }
}
