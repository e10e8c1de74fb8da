//! [`Authenticator`]: enhanced authentication, from the client's side.

use whimbrel_session::codec::bytes::Bytes;

/// A method of enhanced authentication, such as SCRAM [MQTT-4.12.0].
///
/// Called by the driver, between two packets: it must not block.
pub trait Authenticator: Send + Sync + 'static {
    /// The method's name, as CONNECT says it.
    fn method(&self) -> &str;

    /// Begins an authentication: at each attempt to connect, and at each
    /// [`Client::reauthenticate`](crate::Client::reauthenticate).
    fn begin(&self) -> Box<dyn Authentication>;
}

/// One authentication under way.
pub trait Authentication: Send {
    /// What CONNECT, or the AUTH that begins anew, carries.
    ///
    /// # Errors
    ///
    /// A reason in words, which ends the attempt.
    fn first(&mut self) -> Result<Option<Bytes>, String> {
        Ok(None)
    }

    /// Answers AUTH 0x18.
    ///
    /// # Errors
    ///
    /// A reason in words, which ends the connection.
    fn answer(&mut self, data: Option<&[u8]>) -> Result<Option<Bytes>, String>;

    /// The server says that it is content: with CONNACK, or with AUTH 0x00. The client may be not, where the server has
    /// to prove itself too.
    ///
    /// # Errors
    ///
    /// A reason in words, which ends the connection.
    fn finish(&mut self, data: Option<&[u8]>) -> Result<(), String> {
        let _ = data;
        Ok(())
    }
}
