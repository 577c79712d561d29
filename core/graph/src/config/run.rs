//! `[run]`: the resources of a run. None of it enters a cache key.

use super::{
    from_value::{FromValue, Wrong},
    reader::{ReadEnv, Reader},
    size::Size,
    value::{Table, Value},
};
use crate::source::Span;

/// What a run may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSettings {
    /// Where tensors live.
    pub device: Device,
    /// Threads of the kernels and of data loading; `None` is all of them.
    pub threads: Option<usize>,
    /// Memory that the run may plan with, in bytes; `None` is what the machine has.
    pub memory: Option<u64>,
    /// Who runs the nodes.
    pub executor: Executor,
}

/// Where tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
    /// A CUDA device by number.
    Cuda(usize),
    /// CUDA if this build and this machine have it, else the processor.
    Auto,
}

/// Who runs the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executor {
    /// This process.
    Local,
}

/// Bytes as `"8GiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bytes(u64);

impl RunSettings {
    /// Reads the table.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        const REASON: &str = "resources do not change results";
        Self {
            device: reader.field("device", "where tensors live").not_in_key(REASON).or(Device::Cpu),
            threads: reader
                .field("threads", "threads to use; all by default")
                .min(1)
                .not_in_key(REASON)
                .optional(),
            memory: reader
                .field::<Bytes>("memory", "memory to plan with, as \"8GiB\"")
                .not_in_key(REASON)
                .optional()
                .map(|bytes| bytes.0),
            executor: reader
                .choice("executor", "who runs the nodes", &[("local", Executor::Local, "this process")])
                .not_in_key(REASON)
                .or("local"),
        }
    }

    /// Reads the table of an experiment; without one, the defaults hold.
    pub(crate) fn from_table(env: &ReadEnv<'_>, table: Option<&Table>, at: Span) -> Self {
        let mut reader = Reader::new(env, table, at);
        let settings = Self::read(&mut reader);
        reader.finish(&[]);
        settings
    }
}

impl Device {
    /// `cpu`, `cuda` (the first), `cuda:N` or `auto`.
    pub fn named(text: &str) -> Option<Self> {
        match text {
            "cpu" => Some(Self::Cpu),
            "auto" => Some(Self::Auto),
            "cuda" => Some(Self::Cuda(0)),
            _ => text.strip_prefix("cuda:")?.parse().ok().map(Self::Cuda),
        }
    }
}

impl FromValue for Device {
    fn ty() -> String {
        "device".to_owned()
    }

    fn from_value(value: &Value) -> Result<Self, Wrong> {
        let text = value.as_str().ok_or_else(|| Wrong::ty(value, "device"));
        let text = text.map_err(|wrong| wrong.help("one of `cpu`, `cuda`, `cuda:N`, `auto`"))?;
        Self::named(text).ok_or_else(|| {
            Wrong::new(value, format!("unknown device `{text}`"))
                .help("one of `cpu`, `cuda`, `cuda:N`, `auto`")
        })
    }

    fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Cpu => "cpu".into(),
            Self::Cuda(number) => format!("cuda:{number}").into(),
            Self::Auto => "auto".into(),
        }
    }

    fn placeholder() -> Self {
        Self::Cpu
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^(cpu|auto|cuda(:[0-9]+)?)$" })
    }
}

impl FromValue for Bytes {
    fn ty() -> String {
        "amount of memory".to_owned()
    }

    fn from_value(value: &Value) -> Result<Self, Wrong> {
        let text = value.as_str().ok_or_else(|| Wrong::ty(value, "string").help("for example \"8GiB\""))?;
        parse_bytes(text).map(Self).ok_or_else(|| {
            Wrong::new(value, format!("`{text}` is no amount of memory")).help("for example \"8GiB\"")
        })
    }

    fn to_json(&self) -> serde_json::Value {
        self.0.into()
    }

    fn placeholder() -> Self {
        Self(1 << 30)
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^[0-9]+ *([kKMGT]B|[KMGT]iB|B)$" })
    }
}

/// `8GiB`, `512MB`: more than none, and with a unit, since a few bytes of memory are a mistake.
fn parse_bytes(text: &str) -> Option<u64> {
    let Size(bytes) = text.parse().ok()?;
    (bytes > 0 && text.ends_with('B')).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_a_unit() {
        assert_eq!(parse_bytes("8GiB"), Some(8 << 30));
        assert_eq!(parse_bytes("512 MB"), Some(512_000_000));
        for wrong in ["", "8", "GiB", "0GiB", "8 gib", "-1GiB", "99999999999TiB"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }
}
