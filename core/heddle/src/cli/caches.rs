//! Which caches a command uses: its options, the environment, and what the experiment says.

use heddle_remote::Address;
use serde_json::Value as Json;

use super::{args::CacheArgs, exit::Failure};
use crate::exec::{CacheUse, RunRecord};

impl CacheArgs {
    /// With the remote that an experiment names, if the command line names none.
    pub fn with(&self, remote: Option<&str>) -> Result<CacheUse, Failure> {
        let modes = self.cache.unwrap_or_default();
        let remote = match (modes.remote, self.remote.as_deref().or(remote)) {
            (None, _) => None,
            (Some(access), Some(url)) => {
                let address: Address = url.parse().map_err(|error| Failure::Other(format!("{error}")))?;
                Some((address, access))
            }
            (Some(_), None) if modes.names_remote => {
                return Err(Failure::Other(
                    "`--cache` wants a remote, and none is named; name it with `--remote URL`, with HEDDLE_REMOTE, or as `remote` \
                     under `[cache]`"
                        .to_owned(),
                ));
            }
            (Some(_), None) => None,
        };
        let local_is_read_only = modes.local == crate::exec::Access::Read;
        Ok(CacheUse { local_is_read_only, remote, paranoid: self.paranoid })
    }

    /// With the remote that a run had by its experiment.
    pub fn with_that_of(&self, record: &RunRecord) -> Result<CacheUse, Failure> {
        self.with(record.config.get("cache").and_then(|cache| cache.get("remote")).and_then(Json::as_str))
    }
}
