//! Bytes on their way: the asynchronous calls to `object_store`, each with an end to waiting.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, WriteMultipart, path::Path,
};

use crate::error::RemoteError;

/// How long a request, or the next part of an answer, may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Uploads have a second more for so many bytes.
const SLOWEST_BYTES: u64 = 1 << 20;

/// Up to this length an object is sent in one request, which can be told not to replace another.
const SINGLE_BYTES: usize = 64 << 20;

/// Longer ones are sent in parts of this length, so many at a time.
const PART_BYTES: usize = 16 << 20;
const PARTS_AT_ONCE: usize = 4;

/// What is fetched is handed over in pieces of about this length.
const PIECE_BYTES: usize = 1 << 20;

/// So many small values are fetched at a time.
const VALUES_AT_ONCE: usize = 16;

/// A store, and calls to it.
#[derive(Debug, Clone)]
pub(crate) struct Wire(pub(crate) Arc<dyn ObjectStore>);

/// An object that is being fetched.
pub(crate) type Stream = BoxStream<'static, Result<Bytes, Error>>;

/// Gives up after a while.
async fn patiently<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, RemoteError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(RemoteError::Silent(limit)),
    }
}

/// What is not there is no error.
fn there<T>(result: Result<T, RemoteError>) -> Result<Option<T>, RemoteError> {
    match result {
        Err(RemoteError::Refused(Error::NotFound { .. })) => Ok(None),
        other => other.map(Some),
    }
}

impl Wire {
    /// The length of an object.
    pub(crate) async fn len(&self, at: Path) -> Result<Option<u64>, RemoteError> {
        Ok(there(patiently(PATIENCE, self.0.head(&at)).await)?.map(|meta| meta.size))
    }

    /// Begins to fetch an object.
    pub(crate) async fn open(&self, at: Path) -> Result<Option<Stream>, RemoteError> {
        Ok(there(patiently(PATIENCE, self.0.get(&at)).await)?.map(|found| found.into_stream()))
    }

    /// The whole of a small object.
    pub(crate) async fn read(&self, at: Path) -> Result<Option<Vec<u8>>, RemoteError> {
        let Some(mut stream) = self.open(at).await? else { return Ok(None) };
        let mut all = Vec::new();
        while let Some(piece) = piece(&mut stream).await? {
            all.extend_from_slice(&piece);
        }
        Ok(Some(all))
    }

    /// The small objects below a path.
    pub(crate) async fn read_below(&self, at: Path) -> Result<Vec<(Path, Vec<u8>)>, RemoteError> {
        let mut list = self.0.list(Some(&at));
        let mut paths = Vec::new();
        while let Some(meta) = there(patiently(PATIENCE, list.try_next()).await)?.flatten() {
            paths.push(meta.location);
        }
        let read = |path: Path| {
            let wire = self.clone();
            async move { Ok::<_, RemoteError>((path.clone(), wire.read(path).await?)) }
        };
        let all: Vec<_> =
            futures_util::stream::iter(paths).map(read).buffered(VALUES_AT_ONCE).try_collect().await?;
        Ok(all.into_iter().filter_map(|(path, bytes)| Some((path, bytes?))).collect())
    }

    /// Stores an object, over another only if `replace` says so; whether it was stored. Nobody sees a part of it.
    pub(crate) async fn put(&self, at: Path, bytes: Bytes, replace: bool) -> Result<bool, RemoteError> {
        let limit = PATIENCE + Duration::from_secs(bytes.len() as u64 / SLOWEST_BYTES);
        if bytes.len() > SINGLE_BYTES {
            // What is there already has the same name, and so the same bytes.
            return patiently(limit, self.put_in_parts(&at, bytes)).await.map(|()| true);
        }
        let put = |mode| {
            let options = PutOptions { mode, ..PutOptions::default() };
            patiently(limit, self.0.put_opts(&at, PutPayload::from(bytes.clone()), options))
        };
        if replace {
            return put(PutMode::Overwrite).await.map(|_| true);
        }
        match put(PutMode::Create).await {
            Ok(_) => Ok(true),
            Err(RemoteError::Refused(Error::AlreadyExists { .. } | Error::Precondition { .. })) => Ok(false),
            // A service that cannot tell: the same bytes again do no harm.
            Err(RemoteError::Refused(Error::NotImplemented { .. } | Error::NotSupported { .. })) => {
                put(PutMode::Overwrite).await.map(|_| true)
            }
            Err(error) => Err(error),
        }
    }

    async fn put_in_parts(&self, at: &Path, bytes: Bytes) -> Result<(), Error> {
        let upload = self.0.put_multipart(at).await?;
        let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let sent = send_parts(&mut parts, bytes).await;
        match sent {
            Ok(()) => parts.finish().await.map(drop),
            Err(error) => {
                // What was sent is dropped there; if that fails too, it is still under no name.
                let _ = parts.abort().await;
                Err(error)
            }
        }
    }
}

async fn send_parts(parts: &mut WriteMultipart, bytes: Bytes) -> Result<(), Error> {
    for start in (0..bytes.len()).step_by(PART_BYTES) {
        parts.wait_for_capacity(PARTS_AT_ONCE).await?;
        parts.put(bytes.slice(start..bytes.len().min(start + PART_BYTES)));
    }
    Ok(())
}

/// The next piece of an object; none at its end.
pub(crate) async fn piece(stream: &mut Stream) -> Result<Option<Vec<u8>>, RemoteError> {
    let mut piece = Vec::new();
    while piece.len() < PIECE_BYTES {
        match patiently(PATIENCE, stream.try_next()).await? {
            Some(bytes) => piece.extend_from_slice(&bytes),
            None => break,
        }
    }
    Ok(Some(piece).filter(|piece| !piece.is_empty()))
}
