//! Paths of objects and values, and back.

use heddle_graph::digest::Digest;
use object_store::path::{Path, PathPart};

/// Version of the layout.
const V1: &str = "v1";

/// Where things lie below the prefix of an address.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    root: Path,
}

impl Places {
    pub(crate) fn below(prefix: &Path) -> Self {
        Self { root: prefix.clone().join(V1) }
    }

    /// Of a payload. The first byte is a folder, so that none grows too long.
    pub(crate) fn object(&self, digest: &Digest) -> Path {
        let name = digest.to_string();
        self.path(["objects".into(), name[..2].into(), name.as_str().into()])
    }

    /// Of a value, or of all values whose keys begin so.
    pub(crate) fn value(&self, space: &str, key: &[Digest]) -> Path {
        let mut path = self.path(["values".into(), space.into()]);
        for part in key {
            path = path.join(part.to_string());
        }
        path
    }

    /// The key of the value at a path; none if it is not one of this space.
    pub(crate) fn key(&self, space: &str, path: &Path) -> Option<Vec<Digest>> {
        let parts = path.prefix_match(&self.value(space, &[]))?;
        parts.map(|part| part.as_ref().parse().ok()).collect()
    }

    fn path<const N: usize>(&self, parts: [PathPart<'_>; N]) -> Path {
        parts.into_iter().fold(self.root.clone(), |path, part| path.join(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_from_paths() {
        let places = Places::below(&Path::from("team/a"));
        let key = [Digest::of(b"set"), Digest::of(b"keys")];
        let path = places.value("rows", &key);
        assert_eq!(places.key("rows", &path), Some(key.to_vec()));
        assert_eq!(places.key("trace", &path), None);
        assert_eq!(places.key("rows", &Path::from("team/a/v1/values/rows/readme.txt")), None);
        let digest = Digest::of(b"x");
        let expected = format!("team/a/v1/objects/{}/{digest}", &digest.to_string()[..2]);
        assert_eq!(places.object(&digest).as_ref(), expected);
    }
}
