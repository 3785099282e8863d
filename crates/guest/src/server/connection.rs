//! One client's connection: who it is, and what it asks for on each of its channels.
//!
//! Requests must be answered in the order in which they arrive, so they are answered here, where they arrive.
//! The bytes of a channel never pass through here: a task of its own has them.

use std::collections::HashMap;
use std::sync::Arc;

use russh::keys::PublicKey;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, Pty};
use tokio::sync::{oneshot, watch};

use super::ServerConfig;
use super::channel::{self, SessionChannel};
use super::environment::ClientVariables;
use super::forward;
use super::process::{self, Program, StartError, Started, TerminalRequest};
use super::throttle::Throttle;

/// As many channels may be open on one connection and wait for a program; OpenSSH's `MaxSessions` is 10.
const MAX_WAITING_CHANNELS: usize = 64;

/// A connection and its channels.
pub(super) struct Connection {
    config: Arc<ServerConfig>,
    /// Turns true with the login; dropped with the connection.
    alive: watch::Sender<bool>,
    /// Holds the client back while a channel's queue is full.
    throttle: Arc<Throttle>,
    /// Session channels for which nothing was started yet.
    waiting: HashMap<ChannelId, WaitingChannel>,
}

/// What a client has asked for before it says what to run.
struct WaitingChannel {
    terminal: Option<TerminalRequest>,
    variables: ClientVariables,
    start: oneshot::Sender<Result<Started, StartError>>,
}

impl Connection {
    pub(super) fn new(config: Arc<ServerConfig>, alive: watch::Sender<bool>) -> Self {
        Self { config, alive, throttle: Arc::default(), waiting: HashMap::new() }
    }

    /// The comment that may follow a key is not part of it.
    fn decide(&self, user: &str, key: &PublicKey) -> Auth {
        if user == self.config.login.name && key.key_data() == self.config.authorized_key.key_data() {
            Auth::Accept
        } else {
            Auth::reject()
        }
    }

    /// Starts a program on a channel. A program that cannot be started is told to the user on the channel: a
    /// refused request would not say why.
    fn start(&mut self, id: ChannelId, program: &Program, session: &mut Session) -> Result<(), russh::Error> {
        let Some(WaitingChannel { terminal, variables, start }) = self.waiting.remove(&id) else {
            return session.channel_failure(id);
        };
        let started = process::start(&self.config, program, terminal.as_ref(), &variables);
        session.channel_success(id)?;
        // The task is gone only if the channel is.
        let _ = start.send(started);
        Ok(())
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(self.decide(user, offer.public_key))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        Ok(self.decide(user, key.public_key))
    }

    async fn auth_succeeded(&mut self, _session: &mut Session) -> Result<(), russh::Error> {
        self.alive.send_replace(true);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        if self.waiting.len() >= MAX_WAITING_CHANNELS {
            return Ok(());
        }
        let id = channel.id();
        let (start, started) = oneshot::channel();
        let waiting = WaitingChannel { terminal: None, variables: ClientVariables::default(), start };
        self.waiting.insert(id, waiting);
        let (reader, writer) = channel.split();
        let handle = session.handle();
        reply.accept().await;
        let first_prompt = self.config.first_prompt.clone();
        let throttle = Arc::clone(&self.throttle);
        let channel = SessionChannel { reader, writer, handle, first_prompt, throttle, start: started };
        tokio::spawn(channel::run(channel));
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host_to_connect: &str,
        port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        let host = host_to_connect.to_owned();
        tokio::spawn(forward::run(channel, host, port_to_connect, reply, Arc::clone(&self.throttle)));
        Ok(())
    }

    fn adjust_window(&mut self, _channel: ChannelId, _current: u32) -> u32 {
        self.throttle.window()
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        _data: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.throttle.hold_back(session.sender_window_size(channel)).await;
        Ok(())
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.waiting.remove(&channel);
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        col_width: u32,
        row_height: u32,
        pix_width: u32,
        pix_height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let Some(waiting) = self.waiting.get_mut(&channel) else { return session.channel_failure(channel) };
        let size = channel::window(col_width, row_height, pix_width, pix_height);
        waiting.terminal = Some(TerminalRequest { term: term.to_owned(), size, modes: modes.to_vec() });
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        variable_name: &str,
        variable_value: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let waiting = self.waiting.get_mut(&channel);
        match waiting.is_some_and(|waiting| waiting.variables.set(variable_name, variable_value)) {
            true => session.channel_success(channel),
            false => session.channel_failure(channel),
        }
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.start(channel, &Program::Shell, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.start(channel, &Program::Command(data.to_vec()), session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        if name != "sftp" {
            return session.channel_failure(channel);
        }
        self.start(channel, &Program::Sftp, session)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        _x11_auth_protocol: &str,
        _x11_auth_cookie: &str,
        _x11_screen_number: u32,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }
}
