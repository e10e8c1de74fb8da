//! Unix sockets.

use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt, path::PathBuf};

use tokio::net::UnixListener;
use whimbrel_net::{Connect, ConnectError, Stream, Transport};

use crate::servers::{assert_echo, echo};

async fn connect(path: impl Into<PathBuf>) -> Result<Stream, ConnectError> {
    Connect::default()
        .connect(&Transport::Unix(path.into()))
        .await
}

#[tokio::test]
async fn bytes_travel_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move { echo(listener.accept().await.unwrap().0).await });
    let stream = connect(path).await.unwrap();
    assert!(stream.tcp().is_none());
    assert_echo(stream, 300_000, 1_000).await;
    server.await.unwrap();
}

#[tokio::test]
async fn missing_socket_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    match connect(&missing).await {
        Err(ConnectError::Unix { path, source }) => {
            assert_eq!(path, missing);
            assert_eq!(source.kind(), io::ErrorKind::NotFound);
        }
        other => panic!("{other:?}"),
    }
}

/// A server that was killed leaves its socket behind.
#[tokio::test]
async fn socket_without_a_server_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    match connect(&path).await {
        Err(ConnectError::Unix { source, .. }) => {
            assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn longest_path_connects_and_one_byte_more_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let length_max = match connect("/".repeat(1_000)).await {
        Err(ConnectError::UnixPathTooLong { length_max, .. }) => length_max,
        other => panic!("{other:?}"),
    };
    let room = length_max - folder.path().as_os_str().len() - 1;
    let longest = folder.path().join("s".repeat(room));
    let listener = UnixListener::bind(&longest).unwrap();
    connect(&longest).await.unwrap();
    drop(listener);
    let error = connect(folder.path().join("s".repeat(room + 1))).await;
    assert!(
        matches!(error, Err(ConnectError::UnixPathTooLong { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn path_that_no_socket_can_have_is_refused() {
    for path in [b"".as_slice(), b"/tmp/a\0b"] {
        let error = connect(OsStr::from_bytes(path)).await;
        assert!(matches!(error, Err(ConnectError::UnixPath)), "{error:?}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn abstract_name_needs_no_file() {
    let name = format!("\0whimbrel-net-{}", std::process::id());
    let listener = UnixListener::bind(&name).unwrap();
    let server = tokio::spawn(async move { echo(listener.accept().await.unwrap().0).await });
    assert_echo(connect(&name).await.unwrap(), 1_000, 100).await;
    server.await.unwrap();
}
