//! Programs that build plugins: where they are, and what they say when they fail.

use std::{
    env,
    ffi::OsStr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::cli::{exit::Failure, output};

/// The most bytes of a tool's words that are shown: the last ones.
const SHOWN: usize = 8 << 10;

/// A program in one of these folders, else on PATH.
pub fn find(name: impl AsRef<OsStr>, first: &[PathBuf]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // An empty part of PATH means the current folder, which is not where tools are.
    let folders = env::split_paths(&path).filter(|folder| !folder.as_os_str().is_empty());
    let candidates = first.iter().cloned().chain(folders);
    candidates.map(|folder| folder.join(name.as_ref())).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A program or what a language needs that is not there, and how to get it.
pub fn missing(what: &str, how: &str) -> Failure {
    Failure::Other(format!("{what}; {how}"))
}

/// Runs a tool to its end and gives its standard output; if it fails, all that it said is the error.
pub fn run(command: &mut Command) -> Result<String, Failure> {
    let shown = shown(command);
    output::note(&format!("running {shown}"));
    let ended = command.output().map_err(Failure::io(format!("running {shown}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if ended.status.success() {
        return Ok(text(&ended.stdout));
    }
    // Some tools write their errors to standard output.
    let said = text(&ended.stderr) + &text(&ended.stdout);
    Err(Failure::Other(format!("{shown} failed ({}):\n{}", ended.status, tail(said.trim()))))
}

/// The first line that a program prints, if it runs.
pub fn ask(command: &mut Command) -> Option<String> {
    let ended = command.output().ok().filter(|ended| ended.status.success())?;
    Some(String::from_utf8_lossy(&ended.stdout).lines().next()?.to_owned())
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    format!("`{}`", [name].into_iter().chain(words).collect::<Vec<_>>().join(" "))
}

/// The end of a text, from the beginning of a line.
fn tail(text: &str) -> &str {
    let Some(from) = text.len().checked_sub(SHOWN) else { return text };
    let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let text = &text[from..];
    text.split_once('\n').map_or(text, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_fails_is_shown_with_its_words() {
        let error = run(Command::new("/bin/sh").args(["-c", "echo out; echo err >&2; exit 3"]))
            .expect_err("it ends with 3");
        let error = error.to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("err\nout"), "{error}");
    }

    #[test]
    fn long_words_are_cut_at_a_line() {
        let text = "ä line\n".repeat(4000);
        let cut = tail(&text);
        assert!(cut.len() <= SHOWN && cut.starts_with("ä line\n"), "{} bytes", cut.len());
        assert_eq!(tail("short"), "short");
    }
}
