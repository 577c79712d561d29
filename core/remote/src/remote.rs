//! [`Remote`]: the public face; blocking calls on threads of its own.

use std::{
    collections::HashSet,
    io::Write,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use bytes::Bytes;
use heddle_graph::digest::Digest;
use object_store::{ObjectStore, local::LocalFileSystem, path::Path};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::{
    address::{Address, Service},
    error::RemoteError,
    place::Places,
    sealed,
    transfer::{Wire, piece},
};

/// The key of a value in its space, and the value.
pub type KeyValue = (Vec<Digest>, Vec<u8>);

/// An open remote.
///
/// ```
/// use heddle_remote::{Digest, Fetched, Put, Remote};
///
/// # let dir = tempfile::tempdir()?;
/// let address = format!("file://{}", dir.path().display()).parse()?;
/// let remote = Remote::open(&address)?;
/// let digest = Digest::of(b"features");
/// remote.publish(&digest, b"features".to_vec().into())?;
/// remote.put_value("trace", &[Digest::of(b"key of the node")], digest.as_bytes(), Put::IfAbsent)?;
///
/// let mut bytes = Vec::new();
/// assert_eq!(remote.fetch(&digest, &mut bytes)?, Fetched::Whole);
/// assert_eq!(bytes, b"features");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Remote {
    wire: Wire,
    places: Places,
    address: Address,
    /// Taken when it is dropped.
    runtime: Option<Runtime>,
    stopped: CancellationToken,
    fetched: AtomicU64,
    published: AtomicU64,
    /// What was found damaged: it is published anew.
    damaged: Mutex<HashSet<Path>>,
    /// Objects that are there.
    known: Mutex<HashSet<Digest>>,
}

/// How fetching an object has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// Its bytes are written, and have its digest.
    Whole,
    /// There is none.
    Absent,
    /// What was written is something else.
    Damaged,
}

/// What happens to a value that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It stays, unless it was found damaged.
    IfAbsent,
    /// It is replaced.
    Replacing,
}

/// Bytes of objects and values that went over the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the remote.
    pub fetched: u64,
    /// To it.
    pub published: u64,
}

impl Remote {
    /// Opens a remote. Of a cloud nothing is asked yet.
    ///
    /// # Errors
    /// [`RemoteError`] if the folder is not there, or the environment does not say what the cloud's client needs.
    pub fn open(address: &Address) -> Result<Self, RemoteError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("heddle-remote")
            .enable_all()
            .build()
            .map_err(|_| RemoteError::Stopped)?;
        // Clients of clouds may want to be made where they are used.
        let entered = runtime.enter();
        let (store, prefix) = client(address)?;
        drop(entered);
        Ok(Self {
            wire: Wire(store),
            places: Places::below(&prefix),
            address: address.clone(),
            runtime: Some(runtime),
            stopped: CancellationToken::new(),
            fetched: AtomicU64::new(0),
            published: AtomicU64::new(0),
            damaged: Mutex::default(),
            known: Mutex::default(),
        })
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Ends every question that somebody waits for, and those to come, with [`RemoteError::Interrupted`]. What is being stored is.
    pub fn stop(&self) {
        self.stopped.cancel();
    }

    /// What went over the wire so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            fetched: self.fetched.load(Ordering::Relaxed),
            published: self.published.load(Ordering::Relaxed),
        }
    }

    /// Whether there is an object under this digest, and it was not found damaged; does not look at its bytes.
    ///
    /// # Errors
    /// [`RemoteError`] if the remote does not answer.
    pub fn has(&self, digest: &Digest) -> Result<bool, RemoteError> {
        let at = self.places.object(digest);
        if lock(&self.known).contains(digest) {
            return Ok(true);
        }
        if lock(&self.damaged).contains(&at) {
            return Ok(false);
        }
        let wire = self.wire.clone();
        let there = self.wait(async move { wire.len(at).await })?.is_some();
        if there {
            lock(&self.known).insert(*digest);
        }
        Ok(there)
    }

    /// Takes an object for damaged until it is published again: what lies beside it was.
    pub fn doubt(&self, digest: &Digest) {
        lock(&self.known).remove(digest);
        lock(&self.damaged).insert(self.places.object(digest));
    }

    /// Writes the bytes of an object. Unless they are [`Fetched::Whole`], what was written is to be thrown away.
    ///
    /// # Errors
    /// [`RemoteError`] if the remote does not answer, or `to` does not take the bytes.
    pub fn fetch(&self, digest: &Digest, to: &mut dyn Write) -> Result<Fetched, RemoteError> {
        let at = self.places.object(digest);
        let (wire, path) = (self.wire.clone(), at.clone());
        let Some(mut stream) = self.wait(async move { wire.open(path).await })? else {
            lock(&self.known).remove(digest);
            return Ok(Fetched::Absent);
        };
        let mut hasher = blake3::Hasher::new();
        loop {
            let (bytes, rest) = self.wait(async move { Ok((piece(&mut stream).await?, stream)) })?;
            stream = rest;
            let Some(bytes) = bytes else { break };
            hasher.update(&bytes);
            self.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            to.write_all(&bytes).map_err(RemoteError::Write)?;
        }
        if Digest::from_bytes(*hasher.finalize().as_bytes()) == *digest {
            lock(&self.known).insert(*digest);
            return Ok(Fetched::Whole);
        }
        lock(&self.known).remove(digest);
        self.note_damage(at);
        Ok(Fetched::Damaged)
    }

    /// Stores an object under its digest, unless it is there; durable when it returns.
    ///
    /// # Errors
    /// [`RemoteError`] if the remote does not answer, or does not let itself be written.
    ///
    /// # Panics
    /// In debug builds, if `digest` is not that of `bytes`.
    pub fn publish(&self, digest: &Digest, bytes: Bytes) -> Result<(), RemoteError> {
        debug_assert_eq!(Digest::of(&bytes), *digest, "an object is named by its bytes");
        let at = self.places.object(digest);
        let (wire, path, len) = (self.wire.clone(), at.clone(), bytes.len() as u64);
        let was_damaged = lock(&self.damaged).contains(&at);
        let there = self.wait(async move { wire.len(path).await })?;
        if there != Some(len) || was_damaged {
            // One of another length is torn: the file system lost its end.
            self.put(at, bytes, there.is_some() || was_damaged)?;
        }
        lock(&self.known).insert(*digest);
        Ok(())
    }

    /// The value under a key; none if there is none or it is damaged.
    ///
    /// # Errors
    /// [`RemoteError`] if the remote does not answer.
    pub fn value(&self, space: &str, key: &[Digest]) -> Result<Option<Vec<u8>>, RemoteError> {
        let at = self.places.value(space, key);
        let (wire, path) = (self.wire.clone(), at.clone());
        let bytes = self.wait(async move { wire.read(path).await })?;
        Ok(bytes.and_then(|bytes| self.opened(space, key, at, &bytes)))
    }

    /// The values whose keys begin with `prefix`, in no particular order. Damaged ones are left out.
    ///
    /// # Errors
    /// [`RemoteError`] if the remote does not answer.
    pub fn values_under(&self, space: &str, prefix: &[Digest]) -> Result<Vec<KeyValue>, RemoteError> {
        let (wire, at) = (self.wire.clone(), self.places.value(space, prefix));
        let found = self.wait(async move { wire.read_below(at).await })?;
        let value = |(at, bytes): (Path, Vec<u8>)| {
            let key = self.places.key(space, &at)?;
            let value = self.opened(space, &key, at, &bytes)?;
            Some((key, value))
        };
        Ok(found.into_iter().filter_map(value).collect())
    }

    /// Stores a value; durable when it returns. What it names has to be published before.
    ///
    /// # Errors
    /// [`RemoteError`] if the remote does not answer, or does not let itself be written.
    pub fn put_value(&self, space: &str, key: &[Digest], value: &[u8], put: Put) -> Result<(), RemoteError> {
        let at = self.places.value(space, key);
        let replace = put == Put::Replacing || lock(&self.damaged).contains(&at);
        self.put(at, sealed::seal(space, key, value).into(), replace)
    }

    fn put(&self, at: Path, bytes: Bytes, replace: bool) -> Result<(), RemoteError> {
        let (wire, path, len) = (self.wire.clone(), at.clone(), bytes.len() as u64);
        // Not cut off in its midst: a cloud would keep the parts that were sent.
        if self.wait_to_the_end(async move { wire.put(path, bytes, replace).await })? {
            self.published.fetch_add(len, Ordering::Relaxed);
        }
        lock(&self.damaged).remove(&at);
        Ok(())
    }

    fn opened(&self, space: &str, key: &[Digest], at: Path, bytes: &[u8]) -> Option<Vec<u8>> {
        self.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let value = sealed::open(space, key, bytes);
        if value.is_none() {
            self.note_damage(at);
        }
        value
    }

    fn note_damage(&self, at: Path) {
        tracing::warn!("{at} in the remote {} is damaged and counts as absent", self.address);
        lock(&self.damaged).insert(at);
    }

    /// Lets `work` run on the remote's threads and waits for it; any thread may wait, one of another runtime too.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, RemoteError>> + Send + 'static,
    ) -> Result<T, RemoteError> {
        let stopped = self.stopped.clone();
        self.wait_to_the_end(async move {
            tokio::select! {
                biased;
                () = stopped.cancelled() => Err(RemoteError::Interrupted),
                answer = work => answer,
            }
        })
    }

    /// The same, whatever [`Remote::stop`] says.
    fn wait_to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, RemoteError>> + Send + 'static,
    ) -> Result<T, RemoteError> {
        let runtime = self.runtime.as_ref().ok_or(RemoteError::Stopped)?;
        let (sender, receiver) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            // Who asked is waiting, or has panicked.
            let _ = sender.send(work.await);
        });
        receiver.recv().unwrap_or(Err(RemoteError::Stopped))
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Waiting for its threads is not allowed on those of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Inserting and removing are the only changes, so a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The client of an address, and the prefix within it.
fn client(address: &Address) -> Result<(Arc<dyn ObjectStore>, Path), RemoteError> {
    match &address.service {
        Service::Folder(folder) => {
            if !folder.is_dir() {
                return Err(RemoteError::NoFolder(folder.clone()));
            }
            Ok((Arc::new(LocalFileSystem::new_with_prefix(folder)?.with_fsync(true)), Path::default()))
        }
        #[cfg(feature = "s3")]
        Service::S3 => {
            let builder = object_store::aws::AmazonS3Builder::from_env().with_url(address.url.as_str());
            let builder = builder.with_retry(cloud::retry()).with_client_options(cloud::options());
            Ok((Arc::new(builder.build()?), cloud::prefix(address)?))
        }
        #[cfg(feature = "gcs")]
        Service::Gcs => {
            let builder =
                object_store::gcp::GoogleCloudStorageBuilder::from_env().with_url(address.url.as_str());
            let builder = builder.with_retry(cloud::retry()).with_client_options(cloud::options());
            Ok((Arc::new(builder.build()?), cloud::prefix(address)?))
        }
        #[cfg(feature = "azure")]
        Service::Azure => {
            let builder =
                object_store::azure::MicrosoftAzureBuilder::from_env().with_url(address.url.as_str());
            let builder = builder.with_retry(cloud::retry()).with_client_options(cloud::options());
            Ok((Arc::new(builder.build()?), cloud::prefix(address)?))
        }
    }
}

/// What clients of clouds have in common.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
mod cloud {
    use std::time::Duration;

    use object_store::{ClientOptions, RetryConfig, path::Path};

    use crate::{address::Address, error::RemoteError, transfer::PATIENCE};

    /// Asks three times within a request's patience.
    pub(super) fn retry() -> RetryConfig {
        RetryConfig { max_retries: 2, retry_timeout: PATIENCE, ..RetryConfig::default() }
    }

    /// A large object may take long; that its next part does not come is noticed elsewhere.
    pub(super) fn options() -> ClientOptions {
        ClientOptions::new().with_timeout_disabled().with_connect_timeout(Duration::from_secs(5))
    }

    pub(super) fn prefix(address: &Address) -> Result<Path, RemoteError> {
        Path::from_url_path(address.url.path()).map_err(|error| RemoteError::Refused(error.into()))
    }
}
