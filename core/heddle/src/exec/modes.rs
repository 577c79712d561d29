//! [`CacheModes`]: what is read and written of the two caches, as `--cache` says it.

use std::str::FromStr;

/// What may be done with a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It is read.
    Read,
    /// It is read and written.
    ReadWrite,
}

/// What is read and written of the local cache and of the remote one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheModes {
    /// Of the local cache. If it is only read, what a command makes lies in a scratch folder and goes with the command.
    pub local: Access,
    /// Of the remote; `None` leaves it alone.
    pub remote: Option<Access>,
    /// Whether the remote was named, so that there has to be one.
    pub names_remote: bool,
}

impl Default for CacheModes {
    fn default() -> Self {
        Self { local: Access::ReadWrite, remote: Some(Access::ReadWrite), names_remote: false }
    }
}

impl FromStr for CacheModes {
    type Err = String;

    /// `local:r`, `remote:none`, `local:rw,remote:r`: what is not named stays as it is without.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut modes = Self::default();
        let mut seen = Vec::new();
        for part in text.split(',') {
            let (cache, mode) = part.trim().split_once(':').unwrap_or((part.trim(), ""));
            if seen.contains(&cache) {
                return Err(format!("`{cache}` is named twice"));
            }
            seen.push(cache);
            match (cache, mode) {
                ("local", "rw") => modes.local = Access::ReadWrite,
                ("local", "r") => modes.local = Access::Read,
                ("remote", "rw") => (modes.remote, modes.names_remote) = (Some(Access::ReadWrite), true),
                ("remote", "r") => (modes.remote, modes.names_remote) = (Some(Access::Read), true),
                ("remote", "none") => modes.remote = None,
                ("local", _) => {
                    return Err(format!("`{part}` is not known; the local cache is `local:rw` or `local:r`"));
                }
                ("remote", _) => {
                    let known = "the remote is `remote:rw`, `remote:r` or `remote:none`";
                    return Err(format!("`{part}` is not known; {known}"));
                }
                _ => {
                    let known = "there are `local` and `remote`, as in `local:rw,remote:r`";
                    return Err(format!("`{part}` names no cache; {known}"));
                }
            }
        }
        Ok(modes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_that_is_accepted() {
        let local = [("local:rw", Access::ReadWrite), ("local:r", Access::Read)];
        let remote = [
            ("remote:rw", Some(Access::ReadWrite), true),
            ("remote:r", Some(Access::Read), true),
            ("remote:none", None, false),
        ];
        for (text, access) in local {
            let alone = CacheModes { local: access, ..CacheModes::default() };
            assert_eq!(text.parse(), Ok(alone), "{text}");
            for (other, of_remote, names_remote) in remote {
                let expected = CacheModes { local: access, remote: of_remote, names_remote };
                assert_eq!(format!("{text},{other}").parse(), Ok(expected));
                assert_eq!(format!("{other}, {text}").parse(), Ok(expected));
            }
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let wrong = [
            "",
            "r",
            "local",
            "local:",
            "local:none",
            "local:w",
            "local:rw:r",
            "remote:w",
            "remote:RW",
            "remote:no",
            "disk:rw",
            "local:rw,",
            "local:rw;remote:r",
            "local:rw,local:r",
            "remote:r,remote:r",
        ];
        for text in wrong {
            assert!(text.parse::<CacheModes>().is_err(), "{text}");
        }
    }
}
