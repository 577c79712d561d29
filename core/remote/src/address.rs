//! [`Address`]: where a remote is, as people write it.

use std::{fmt, path::PathBuf, str::FromStr};

use url::Url;

/// A URL that this build can reach: `file:///shared/heddle`, `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub(crate) url: Url,
    pub(crate) service: Service,
}

/// What answers at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Service {
    Folder(PathBuf),
    #[cfg(feature = "s3")]
    S3,
    #[cfg(feature = "gcs")]
    Gcs,
    #[cfg(feature = "azure")]
    Azure,
}

/// A text that is no address of a remote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is no URL, or one of something else.
    #[error(
        "`{0}` is no remote; a remote is `file:///FOLDER`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`"
    )]
    Unknown(String),
    /// A folder that is relative or on another host.
    #[error(
        "`{0}` names no folder of this machine; a folder is written with three slashes, `file:///shared/heddle`"
    )]
    NoFolder(String),
    /// The cloud is not compiled in.
    #[error(
        "this heddle was built without {cloud}, which `{url}` needs; build it with `--features {feature}`"
    )]
    NotBuilt {
        /// The URL.
        url: String,
        /// What it is of.
        cloud: &'static str,
        /// The cargo feature.
        feature: &'static str,
    },
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let unknown = || AddressError::Unknown(text.to_owned());
        let url = Url::parse(text).map_err(|_| unknown())?;
        let service = match url.scheme() {
            "file" => {
                let folder = url.to_file_path().ok().filter(|folder| folder.parent().is_some());
                Service::Folder(folder.ok_or_else(|| AddressError::NoFolder(text.to_owned()))?)
            }
            "s3" | "gs" | "az" if url.host_str().is_none_or(str::is_empty) => return Err(unknown()),
            #[cfg(feature = "s3")]
            "s3" => Service::S3,
            #[cfg(feature = "gcs")]
            "gs" => Service::Gcs,
            #[cfg(feature = "azure")]
            "az" => Service::Azure,
            scheme => {
                let clouds = [
                    ("s3", "S3", "s3"),
                    ("gs", "Google Cloud Storage", "gcs"),
                    ("az", "Azure Blob Storage", "azure"),
                ];
                let (_, cloud, feature) =
                    clouds.into_iter().find(|(known, ..)| *known == scheme).ok_or_else(unknown)?;
                return Err(AddressError::NotBuilt { url: text.to_owned(), cloud, feature });
            }
        };
        Ok(Self { url, service })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        match text.parse::<Address>() {
            Ok(address) => format!("ok {address}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn folders_are_absolute() {
        assert_eq!(said("file:///shared/heddle"), "ok file:///shared/heddle");
        for wrong in ["file://shared/heddle", "file:///"] {
            assert!(said(wrong).contains("three slashes"), "{wrong}: {}", said(wrong));
        }
    }

    #[test]
    fn what_is_no_remote_is_told_what_one_is() {
        for wrong in ["", "shared", "/shared/heddle", "http://host/x", "s3:///prefix", "memory:///"] {
            assert!(said(wrong).contains("is no remote"), "{wrong}: {}", said(wrong));
        }
    }

    #[test]
    fn clouds_are_reached_or_name_their_feature() {
        let clouds = [
            ("s3://bucket/a/b", "s3", cfg!(feature = "s3")),
            ("gs://bucket", "gcs", cfg!(feature = "gcs")),
            ("az://container/x", "azure", cfg!(feature = "azure")),
        ];
        for (url, feature, built) in clouds {
            let expected = if built { format!("ok {url}") } else { format!("--features {feature}") };
            assert!(said(url).contains(&expected), "{url}: {}", said(url));
        }
    }
}
