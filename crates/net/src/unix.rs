//! Unix sockets, from the client's side.

use std::{
    io,
    os::unix::{ffi::OsStrExt, net::SocketAddr},
    path::Path,
};

use tokio::net::UnixStream;

use crate::connect_error::ConnectError;

/// Connects to the socket at `path`. There is nothing to wait for: the system answers at once, and
/// says `WouldBlock` when the server's queue is full.
pub(crate) async fn connect(path: &Path) -> Result<UnixStream, ConnectError> {
    let bytes = path.as_os_str().as_bytes();
    let is_abstract =
        cfg!(any(target_os = "linux", target_os = "android")) && bytes.first() == Some(&0);
    if bytes.len() > path_bytes_max() {
        return Err(ConnectError::UnixPathTooLong {
            path: path.to_owned(),
            length_max: path_bytes_max(),
        });
    }
    if bytes.is_empty() || (!is_abstract && SocketAddr::from_pathname(path).is_err()) {
        return Err(ConnectError::UnixPath);
    }
    UnixStream::connect(path)
        .await
        .map_err(|source: io::Error| ConnectError::Unix {
            path: path.to_owned(),
            source,
        })
}

/// The room for a path in this system's socket address, less the zero byte that ends it.
const fn path_bytes_max() -> usize {
    size_of::<libc::sockaddr_un>() - std::mem::offset_of!(libc::sockaddr_un, sun_path) - 1
}
