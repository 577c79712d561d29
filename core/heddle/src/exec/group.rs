//! A set of runs of one experiment: its base, ablations, cells of sweeps. One folder a set, `HOME/groups/ID/group.json`,
//! beside which its tables lie.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{record::CellRecord, shelf::Shelf};

/// How a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellState {
    /// It has not started.
    Waiting,
    /// It runs, or was killed while it ran.
    Running,
    /// Everything that was asked for is there.
    Done,
    /// A node failed, or it could not start.
    Failed,
    /// It was stopped.
    Interrupted,
}

impl CellState {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// One cell of a set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupCell {
    /// Which variant.
    pub cell: CellRecord,
    /// How it stands.
    pub state: CellState,
    /// Its last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// A set of runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// `YYYYMMDD-HHMMSS-xxxx`, UTC; sorts by time.
    pub id: String,
    /// The experiment file as it was named.
    pub file: String,
    /// The folder that the command was given in, from the home folder on. Earlier builds wrote it from the root on.
    pub folder: String,
    /// The command line after the program's name.
    pub arguments: Vec<String>,
    /// The values of `-S`.
    pub set: Vec<String>,
    /// The nodes that were asked for; all if empty.
    pub asked: Vec<String>,
    /// The cells, in their order.
    pub cells: Vec<GroupCell>,
}

/// The folder of all sets.
#[derive(Debug, Clone)]
pub struct GroupsDir(Shelf);

impl GroupsDir {
    /// The sets under a home folder.
    pub fn new(home: &Path) -> Self {
        Self(Shelf::new(home.join("groups"), "group.json"))
    }

    /// The folder of one set.
    pub fn dir(&self, id: &str) -> PathBuf {
        self.0.dir(id)
    }

    /// A new id, behind all that there are; makes the folder.
    pub fn create(&self, now_unix: u64) -> io::Result<String> {
        self.0.create(now_unix)
    }

    /// Writes a record whole or not at all.
    pub fn write(&self, record: &GroupRecord) -> io::Result<()> {
        self.0.write(&record.id, record)
    }

    /// Reads one record.
    pub fn read(&self, id: &str) -> io::Result<GroupRecord> {
        self.0.read(id)
    }

    /// The ids of all sets, oldest first.
    pub fn ids(&self) -> io::Result<Vec<String>> {
        self.0.ids()
    }
}
