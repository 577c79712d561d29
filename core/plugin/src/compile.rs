//! Compiles components in a child process, makes components of core modules there, and keeps what it gives.
//!
//! Neither deadlines nor memory limits reach a compiler, so it runs where the system's limits do; and what reads the
//! interface of a core module trusts it, so that a hostile one can use up the stack. Compiled code is native
//! code: it is kept in a folder that only its owner can enter, under the digest of the plugin's file and the engine, with a
//! digest of its own that is compared before it is loaded. Nobody can name such a file; it is never taken from users.
//!
//! ```text
//! magic 16   "heddle-aot 2\n" and zeros
//! digest 32  BLAKE3 of what follows
//! length 4   of the next, little-endian
//! facts      what the scan found, as JSON: a plugin that was looked over once is not looked over again
//! code       as wasmtime serialises it
//! ```

use std::{
    hash::{Hash, Hasher},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, setrlimit};
use wasmtime::{Engine, component::Component};

use crate::{
    CompileLimits, Limits,
    host::{LoadError, engine},
    scan::{Facts, ScanError, encode},
    text::printable,
};

const MAGIC: &[u8; 16] = b"heddle-aot 2\n\0\0\0";
const HEADER: usize = MAGIC.len() + 32;

/// The program that compiles: it calls [`compiler_main`].
#[derive(Debug, Clone)]
pub struct CompilerCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// A component that was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The child could not be started or spoken to.
    #[error("the compiler could not be run: {0}")]
    Run(#[from] io::Error),
    /// It took too long.
    #[error("compiling takes more than {0} s; the file is no plugin that anyone wrote")]
    Wall(u64),
    /// A limit of the system ended it.
    #[error(
        "the compiler was ended by signal {signal}: more than {} s of processor time, {} MiB of memory or its stack", .limits.cpu,
        .limits.memory >> 20
    )]
    Killed {
        /// The signal.
        signal: i32,
        /// The limits.
        limits: CompileLimits,
    },
    /// It refused the component.
    #[error("it does not compile: {0}")]
    Refused(String),
    /// The folder of compiled code is not private.
    #[error("the folder of compiled plugins, `{}`, {why}", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// What was compiled does not load.
    #[error("what was compiled does not load: {0}")]
    Load(String),
}

/// What the child is asked for; its first byte of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Job {
    /// Code of a component.
    Compile = 0,
    /// Code that counts instructions.
    CompileWithFuel = 1,
    /// A component of a core module.
    Encode = 2,
}

/// Compiled code by component and engine.
#[derive(Debug, Clone)]
pub(crate) struct Compiler {
    pub folder: PathBuf,
    pub command: CompilerCommand,
    pub limits: CompileLimits,
}

impl Compiler {
    /// What the folder has of a plugin's file: the facts of its scan, and the component.
    pub fn kept(&self, engine: &Engine, file: &[u8]) -> Result<Option<(Facts, Component)>, CompileError> {
        make_private(&self.folder)?;
        let path = self.path(engine, file);
        match read_kept(&path) {
            Ok(Some((facts, code))) => match load(engine, &code) {
                Ok(component) => return Ok(Some((facts, component))),
                Err(error) => tracing::warn!(%error, "compiled code of another build is compiled anew"),
            },
            Ok(None) => {}
            Err(reason) => {
                tracing::warn!(file = %path.display(), reason, "damaged compiled code is deleted and compiled anew");
            }
        }
        Ok(None)
    }

    /// Compiles the component of a plugin's file, and keeps it with what its scan found.
    pub fn compile(
        &self,
        engine: &Engine,
        file: &[u8],
        component: &[u8],
        facts: &Facts,
        fuel: bool,
    ) -> Result<Component, CompileError> {
        let code = self.run(if fuel { Job::CompileWithFuel } else { Job::Compile }, component)?;
        self.keep(&self.path(engine, file), facts, &code)?;
        load(engine, &code)
    }

    /// The component that a core module becomes.
    pub fn encode(&self, module: &[u8]) -> Result<Vec<u8>, LoadError> {
        self.run(Job::Encode, module).map_err(|error| match error {
            CompileError::Refused(why) => ScanError::Encode(why).into(),
            error => LoadError::from(error),
        })
    }

    fn path(&self, engine: &Engine, file: &[u8]) -> PathBuf {
        self.folder.join(format!("{}.cwasm", key(engine, file)))
    }

    fn keep(&self, path: &Path, facts: &Facts, code: &[u8]) -> Result<(), CompileError> {
        let facts = serde_json::to_vec(facts).map_err(io::Error::other)?;
        let len = u32::try_from(facts.len()).map_err(io::Error::other)?.to_le_bytes();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&len).update(&facts).update(code);
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        for part in [&MAGIC[..], hasher.finalize().as_bytes(), &len, &facts, code] {
            file.write_all(part)?;
        }
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    /// One child, one job.
    fn run(&self, job: Job, bytes: &[u8]) -> Result<Vec<u8>, CompileError> {
        let CompileLimits { cpu, memory, wall } = self.limits;
        let mut child = Command::new(&self.command.program)
            .args(&self.command.arguments)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (mut input, mut output, mut errors) =
            match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
                (Some(input), Some(output), Some(errors)) => (input, output, errors),
                _ => return Err(io::Error::other("no pipes").into()),
            };
        let mut header = vec![job as u8];
        header.extend(cpu.to_le_bytes());
        header.extend(memory.to_le_bytes());
        std::thread::scope(|threads| {
            // A child that ends early closes its input; its exit says why.
            threads.spawn(move || input.write_all(&header).and_then(|()| input.write_all(bytes)).ok());
            let code = threads.spawn(move || {
                let mut code = Vec::new();
                output.read_to_end(&mut code).map(|_| code)
            });
            let said = threads.spawn(move || {
                let mut said = Vec::new();
                let _ = errors.by_ref().take(4096).read_to_end(&mut said);
                let _ = io::copy(&mut errors, &mut io::sink());
                said
            });
            let status = wait(&mut child, wall)?;
            let code = code.join().map_err(|_| io::Error::other("reading failed"))??;
            let said = said.join().map_err(|_| io::Error::other("reading failed"))?;
            use std::os::unix::process::ExitStatusExt;
            match (status.success(), status.signal()) {
                (true, _) => Ok(code),
                (_, Some(signal)) => Err(CompileError::Killed { signal, limits: self.limits }),
                _ => Err(CompileError::Refused(printable(String::from_utf8_lossy(&said).trim()))),
            }
        })
    }
}

/// Waits for the child, and ends it when its time is over.
fn wait(child: &mut Child, wall: Duration) -> Result<std::process::ExitStatus, CompileError> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > wall {
            child.kill()?;
            child.wait()?;
            return Err(CompileError::Wall(wall.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What the child does: limits itself, reads a component or a core module from standard input, writes what was asked for
/// to standard output.
pub fn compiler_main() -> ExitCode {
    // Where in our sources it panics says nothing to the user, and the exit code says the rest.
    std::panic::set_hook(Box::new(|info| {
        let said = info.payload_as_str().unwrap_or("no more is known");
        let _ = writeln!(io::stderr(), "it makes the compiler panic: {said}");
    }));
    let work = || -> Result<(), String> {
        let mut header = [0; 17];
        let mut input = io::stdin().lock();
        input.read_exact(&mut header).map_err(|error| error.to_string())?;
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        let most = |value: u64| Rlimit { current: Some(value), maximum: Some(value) };
        for (resource, value) in [(Resource::Cpu, number(1)), (Resource::As, number(9)), (Resource::Core, 0)]
        {
            setrlimit(resource, most(value)).map_err(|error| error.to_string())?;
        }
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        let made = if header[0] == Job::Encode as u8 {
            encode(&bytes)?
        } else {
            let fuel = header[0] == Job::CompileWithFuel as u8;
            let engine = engine(fuel, Limits::default().stack).map_err(|error| format!("{error:#}"))?;
            engine.precompile_component(&bytes).map_err(|error| format!("{error:#}"))?
        };
        io::stdout().write_all(&made).map_err(|error| error.to_string())
    };
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = io::stderr().write_all(error.as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// Digest of the plugin's file and of all that decides its code.
fn key(engine: &Engine, bytes: &[u8]) -> String {
    struct Feed(blake3::Hasher);
    impl Hasher for Feed {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut feed = Feed(blake3::Hasher::new());
    feed.write(blake3::hash(bytes).as_bytes());
    engine.precompile_compatibility_hash().hash(&mut feed);
    feed.0.finalize().to_hex().to_string()
}

/// Makes the folder if it is missing; others may neither own it nor enter it.
fn make_private(folder: &Path) -> Result<(), CompileError> {
    let wrong = |why: String| CompileError::Folder { folder: folder.to_owned(), why };
    let unmade = |error: io::Error| wrong(format!("cannot be made: {error}"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unmade)?;
    let meta = std::fs::symlink_metadata(folder).map_err(unmade)?;
    if !meta.is_dir() {
        return Err(wrong("is not a folder".into()));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(wrong("belongs to somebody else".into()));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(wrong(format!(
            "is open to others (mode {:o}); `chmod 700` it",
            meta.permissions().mode() & 0o777
        )));
    }
    Ok(())
}

/// The facts and the code in a file, if it is there and whole; a damaged file is deleted.
fn read_kept(path: &Path) -> Result<Option<(Facts, Vec<u8>)>, String> {
    let mut bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let whole = bytes.len() > HEADER
        && bytes.starts_with(MAGIC)
        && bytes[MAGIC.len()..HEADER] == *blake3::hash(&bytes[HEADER..]).as_bytes();
    let parts = || {
        let (len, rest) = bytes.get(HEADER..)?.split_first_chunk::<4>()?;
        let len = u32::from_le_bytes(*len) as usize;
        Some((serde_json::from_slice(rest.get(..len)?).ok()?, HEADER + 4 + len))
    };
    let Some((facts, start)) = whole.then(parts).flatten() else {
        std::fs::remove_file(path).map_err(|error| error.to_string())?;
        return Err("its digest does not fit".into());
    };
    Ok(Some((facts, bytes.split_off(start))))
}

fn load(engine: &Engine, code: &[u8]) -> Result<Component, CompileError> {
    // SAFETY: the bytes come from our own compiler: either just now through a pipe, or from a folder that only this
    // user can enter, and then with the digest that was written with them.
    unsafe { Component::deserialize(engine, code) }.map_err(|error| CompileError::Load(format!("{error:#}")))
}
