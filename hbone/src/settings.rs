use std::time::Duration;

use crate::budget::Account;

/// Windows, limits and intervals of one HTTP/2 connection. Start from [`Settings::client`] or [`Settings::server`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Bytes a peer may have under way on one stream (SETTINGS_INITIAL_WINDOW_SIZE).
    pub stream_window: u32,
    /// Bytes a peer may have under way on all streams together.
    pub connection_window: u32,
    /// Largest frame payload accepted (SETTINGS_MAX_FRAME_SIZE), bytes.
    pub max_frame: u32,
    /// Largest decoded header list accepted (SETTINGS_MAX_HEADER_LIST_SIZE), bytes.
    pub max_header_list: u32,
    /// Bytes one stream may queue for sending. All streams together are bounded by the peer's connection window.
    pub send_buffer: usize,
    /// Streams at a time. A server refuses more (SETTINGS_MAX_CONCURRENT_STREAMS), a client opens no more.
    pub max_streams: u32,
    /// Streams that a peer may reset before they were accepted, before the connection is closed with
    /// ENHANCE_YOUR_CALM (the "rapid reset" attack, CVE-2023-44487).
    pub max_pending_accept_reset_streams: usize,
    /// Streams that this side may have to reset because of the peer's errors before the connection is closed.
    pub max_local_error_reset_streams: usize,
    /// Streams reset by this side that are remembered, so that frames still under way are ignored.
    pub max_concurrent_reset_streams: usize,
    /// Requests that a peer may give up before their answer within [`ABANDONED_WINDOW`], before a server closes the
    /// connection with ENHANCE_YOUR_CALM: the rapid reset attack against a server that accepts quickly.
    pub max_abandoned: usize,
    /// A server takes leave (GOAWAY) of a peer that has had no tunnel open for about this long.
    pub idle_timeout: Duration,
    /// A ping is sent this long after the last one was answered.
    pub ping_interval: Duration,
    /// The connection is given up when neither the answer nor any other byte has arrived for this long after a ping.
    pub ping_timeout: Duration,
    /// Longest wait for the peer's HTTP/2 preface.
    pub handshake_timeout: Duration,
    /// What the connection's buffers count against. None: nothing but the bounds above.
    pub account: Option<Account>,
}

/// See [`Settings::max_abandoned`].
pub const ABANDONED_WINDOW: Duration = Duration::from_secs(10);

impl Settings {
    /// What a client uses unless told otherwise.
    pub fn client() -> Self {
        Self {
            max_header_list: 16 * KIB,
            send_buffer: 4 * MIB as usize,
            max_streams: 100,
            ..Self::common()
        }
    }

    /// What a server uses unless told otherwise.
    pub fn server() -> Self {
        Self {
            max_header_list: 64 * KIB,
            send_buffer: 400 * KIB as usize,
            max_streams: 200,
            ..Self::common()
        }
    }

    fn common() -> Self {
        Self {
            stream_window: 4 * MIB,
            connection_window: 16 * MIB,
            max_frame: MIB,
            max_header_list: 16 * KIB,
            send_buffer: 400 * KIB as usize,
            max_streams: 100,
            max_pending_accept_reset_streams: 100,
            max_local_error_reset_streams: 1024,
            max_concurrent_reset_streams: 200,
            max_abandoned: 1000,
            // Twice what a client of ours, or of Istio's, keeps an unused tunnel for.
            idle_timeout: Duration::from_secs(600),
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(20),
            handshake_timeout: Duration::from_secs(10),
            account: None,
        }
    }
}

const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;
