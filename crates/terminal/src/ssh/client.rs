//! What the VM's SSH server sends, as russh hands it to us.
//!
//! The server belongs to the learner, or to whoever took the VM over: it may not open channels to us, and only
//! what it sends on the channel that we opened counts.

use std::sync::Arc;

use russh::client::{self, ChannelOpenHandle, DisconnectReason, Msg};
use russh::keys::{HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelId, Sig};
use tracing::debug;

use crate::ssh::line::Line;
use crate::ssh::{DialError, ShellEnd};

/// The half of a connection that lives in its task.
pub(super) struct Client {
    host_key: PublicKey,
    line: Arc<Line>,
    /// The one channel, once the server has opened it for us.
    channel: Option<ChannelId>,
}

impl Client {
    /// The client of one connection, which believes this host key only.
    pub(super) fn new(host_key: PublicKey, line: Arc<Line>) -> Self {
        Self { host_key, line, channel: None }
    }

    fn is_ours(&self, channel: ChannelId) -> bool {
        self.channel == Some(channel)
    }
}

/// The task may end on an error of its own making; whatever the reason, nothing comes any more.
impl Drop for Client {
    fn drop(&mut self) {
        self.line.finish(ShellEnd::Lost);
    }
}

impl client::Handler for Client {
    type Error = DialError;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, DialError> {
        let shown = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } if key.key_data() == self.host_key.key_data() => {
                return Ok(true);
            }
            PublicKeyOrCertificate::PublicKey { key, .. } => key.fingerprint(HashAlg::Sha256).to_string(),
            PublicKeyOrCertificate::Certificate(_) => "in a certificate".to_owned(),
        };
        Err(DialError::WrongHostKey { shown })
    }

    async fn channel_open_confirmation(
        &mut self,
        channel: ChannelId,
        _: u32,
        _: u32,
        _: &mut client::Session,
    ) -> Result<(), DialError> {
        self.channel.get_or_insert(channel);
        Ok(())
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _: &mut client::Session,
    ) -> Result<(), DialError> {
        if self.is_ours(channel) {
            self.line.output.push(data);
        }
        Ok(())
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        _: u32,
        data: &[u8],
        session: &mut client::Session,
    ) -> Result<(), DialError> {
        self.data(channel, data, session).await
    }

    async fn exit_status(
        &mut self,
        channel: ChannelId,
        status: u32,
        _: &mut client::Session,
    ) -> Result<(), DialError> {
        if self.is_ours(channel) {
            self.line.note_end(ShellEnd::Exited(status));
        }
        Ok(())
    }

    async fn exit_signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        _: bool,
        _: &str,
        _: &str,
        _: &mut client::Session,
    ) -> Result<(), DialError> {
        if self.is_ours(channel) {
            self.line.note_end(ShellEnd::Killed(signal_name(&signal)));
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut client::Session) -> Result<(), DialError> {
        if self.is_ours(channel) {
            self.line.finish(ShellEnd::Closed);
        }
        Ok(())
    }

    // What the server may open is nothing. A reply that is dropped refuses; russh's own answer to these would be
    // to accept. Kinds of channels that it does not know it refuses itself.

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), DialError> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), DialError> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), DialError> {
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), DialError> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), DialError> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), DialError> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), DialError> {
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<DialError>) -> Result<(), DialError> {
        debug!(?reason, "the SSH connection ended");
        Ok(())
    }
}

/// The name as SSH writes it, without `SIG` (RFC 4254, 6.9).
fn signal_name(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => name.clone(),
        known => format!("{known:?}"),
    }
}
