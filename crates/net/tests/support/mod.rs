//! What the tests over loopback share.

use std::net::SocketAddr;

use whimbrel_net::{Address, Connect, ListenOptions, TcpListener, TcpStream};

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Both futures are spawned, which holds them to be `Send`.
pub(crate) async fn pair(listen: &ListenOptions, connect: Connect) -> (TcpStream, TcpStream) {
    let mut listener = TcpListener::bind(loopback(), listen).unwrap();
    let address = Address::from(listener.local_addr().unwrap());
    let server = tokio::spawn(async move { listener.accept().await });
    let client = tokio::spawn(async move { connect.connect_tcp(&address).await });
    (
        client.await.unwrap().unwrap(),
        server.await.unwrap().unwrap(),
    )
}
