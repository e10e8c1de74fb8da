//! What the tests over loopback share.

use std::net::SocketAddr;

use whimbrel_net::{Address, ListenOptions, TcpConnect, TcpListener, TcpStream};

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Both futures are spawned, which holds them to be `Send`.
pub(crate) async fn pair(listen: &ListenOptions, connect: TcpConnect) -> (TcpStream, TcpStream) {
    let mut listener = TcpListener::bind(loopback(), listen).unwrap();
    let address = Address::from(listener.local_addr().unwrap());
    let server = tokio::spawn(async move { listener.accept().await });
    let client = tokio::spawn(async move { connect.connect(&address).await });
    (
        client.await.unwrap().unwrap(),
        server.await.unwrap().unwrap(),
    )
}
