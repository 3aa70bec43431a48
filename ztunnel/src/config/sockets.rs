//! Settings of sockets and of HTTP/2.

use super::error::{ConfigError, invalid};
use super::mode::ProxyMode;
use super::variables::Variables;
use hbone::budget::Account;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use sys::socket::{ConnectOptions, Keepalive, ListenOptions};

/// Settings of the sockets that carry connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketSettings {
    /// SO_MARK of every socket (`PACKET_MARK`). None: no mark, as in dedicated mode.
    pub mark: Option<u32>,
    /// Probes of idle connections (`KEEPALIVE_*`, `USER_TIMEOUT_ENABLED`). None: none.
    pub keepalive: Option<Keepalive>,
    /// Whether applications see the client's own address (`ENABLE_ORIG_SRC`). None: where the kernel allows it.
    pub original_source: Option<bool>,
}

/// Flow control of tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Settings {
    /// Bytes under way on one stream (`HTTP2_STREAM_WINDOW_SIZE`).
    pub stream_window: u32,
    /// Bytes under way on all streams of a tunnel (`HTTP2_CONNECTION_WINDOW_SIZE`).
    pub connection_window: u32,
    /// Largest frame accepted, bytes (`HTTP2_FRAME_SIZE`).
    pub max_frame: u32,
}

/// Where DNS of captured pods is taken (`ISTIO_META_DNS_PROXY_ADDR`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsAddress {
    /// The address; None for loopback of both families.
    pub ip: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

/// Istio's mark: the redirection rules of a pod let sockets that carry it pass.
const DEFAULT_MARK: u32 = 0x539;
const MIB: u32 = 1 << 20;
/// RFC 9113 section 6.9.1: a window is at most 2^31-1.
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
/// RFC 9113 section 6.9.2: the window that a connection begins with cannot be made smaller.
const SMALLEST_WINDOW: u32 = 65_535;
/// RFC 9113 section 6.5.2: bounds of SETTINGS_MAX_FRAME_SIZE.
const FRAME_SIZES: (u32, u32) = (16_384, 16_777_215);

impl SocketSettings {
    /// A connection to be made; it is given up after `timeout`. `source` is the address to show, where it is not the
    /// namespace's own.
    pub(crate) fn connect(&self, source: Option<SocketAddr>, timeout: Duration) -> ConnectOptions {
        ConnectOptions {
            mark: self.mark,
            source: source.filter(|_| self.shows_original_source()),
            keepalive: self.keepalive,
            timeout: Some(timeout),
        }
    }

    /// A listener; `transparent` for one that takes connections to addresses of others.
    pub(crate) fn listen(&self, transparent: bool, reuse_port: bool, backlog: i32) -> ListenOptions {
        ListenOptions {
            mark: self.mark,
            transparent: transparent && self.shows_original_source(),
            reuse_port,
            keepalive: self.keepalive,
            backlog,
        }
    }

    fn shows_original_source(&self) -> bool {
        self.original_source.unwrap_or(true)
    }
}

impl Http2Settings {
    /// As a tunnel's client uses them, which buffers for `account`.
    pub(crate) fn client(&self, account: Account) -> hbone::Settings {
        self.put_into(hbone::Settings::client(), account)
    }

    /// As a tunnel's server uses them, which buffers for `account`.
    pub(crate) fn server(&self, account: Account) -> hbone::Settings {
        self.put_into(hbone::Settings::server(), account)
    }

    fn put_into(self, mut settings: hbone::Settings, account: Account) -> hbone::Settings {
        settings.stream_window = self.stream_window;
        settings.connection_window = self.connection_window;
        settings.max_frame = self.max_frame;
        settings.account = Some(account);
        settings
    }
}

pub(super) fn http2(variables: &Variables) -> Result<Http2Settings, ConfigError> {
    let windows = SMALLEST_WINDOW..=LARGEST_WINDOW;
    Ok(Http2Settings {
        stream_window: variables.number("HTTP2_STREAM_WINDOW_SIZE", 4 * MIB, windows.clone())?,
        connection_window: variables.number("HTTP2_CONNECTION_WINDOW_SIZE", 16 * MIB, windows)?,
        max_frame: variables.number("HTTP2_FRAME_SIZE", MIB, FRAME_SIZES.0..=FRAME_SIZES.1)?,
    })
}

pub(super) fn max_buffered_bytes(variables: &Variables) -> Result<Option<usize>, ConfigError> {
    const NAME: &str = "ZTUNNEL_MAX_BUFFERED_BYTES";
    let accepted = format!("a number of bytes, {MIB} at least");
    match variables.optional_parsed::<usize>(NAME, &accepted)? {
        Some(bytes) if bytes < MIB as usize => Err(invalid(NAME, &bytes.to_string(), &accepted)),
        bytes => Ok(bytes),
    }
}

pub(super) fn sockets(variables: &Variables, mode: &ProxyMode) -> Result<SocketSettings, ConfigError> {
    let keepalive = Keepalive {
        time: variables.duration("KEEPALIVE_TIME", Duration::from_secs(180))?,
        interval: variables.duration("KEEPALIVE_INTERVAL", Duration::from_secs(180))?,
        // The kernel takes no more (MAX_TCP_KEEPCNT).
        retries: variables.number("KEEPALIVE_RETRIES", 9, 1..=127)?,
        user_timeout: variables.switch("USER_TIMEOUT_ENABLED", false)?,
    };
    for (name, value) in [
        ("KEEPALIVE_TIME", keepalive.time),
        ("KEEPALIVE_INTERVAL", keepalive.interval),
    ] {
        // The kernel takes whole seconds up to MAX_TCP_KEEPIDLE.
        if !(1..=32_767).contains(&value.as_secs()) {
            let value = variables.text(name, "");
            return Err(invalid(name, &value, "between one second and nine hours"));
        }
    }
    let enabled = variables.switch("KEEPALIVE_ENABLED", true)?;
    Ok(SocketSettings {
        mark: mark(variables, mode)?,
        keepalive: enabled.then_some(keepalive),
        original_source: original_source(variables)?,
    })
}

/// In shared mode the rules in the pods rest on the mark; a dedicated proxy often may not set one.
fn mark(variables: &Variables, mode: &ProxyMode) -> Result<Option<u32>, ConfigError> {
    const NAME: &str = "PACKET_MARK";
    let Some(value) = variables.optional(NAME) else {
        return Ok((*mode == ProxyMode::Shared).then_some(DEFAULT_MARK));
    };
    let number = match value.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => value.parse(),
    };
    match number {
        Ok(0) if *mode == ProxyMode::Shared => Err(invalid(
            NAME,
            &value,
            "a mark other than 0 in shared mode, where sockets without one are captured again",
        )),
        Ok(0) => Ok(None),
        Ok(mark) => Ok(Some(mark)),
        Err(_) => Err(invalid(NAME, &value, "a number such as `1337` or `0x539`")),
    }
}

fn original_source(variables: &Variables) -> Result<Option<bool>, ConfigError> {
    match variables.optional("ENABLE_ORIG_SRC").as_deref() {
        None | Some("auto") => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => Err(invalid("ENABLE_ORIG_SRC", other, "`true`, `false` or `auto`")),
    }
}

pub(super) fn dns_address(variables: &Variables) -> Result<DnsAddress, ConfigError> {
    const NAME: &str = "ISTIO_META_DNS_PROXY_ADDR";
    let value = variables.text(NAME, "localhost:15053");
    let wrong = || invalid(NAME, &value, "`localhost:PORT` or `ADDRESS:PORT`");
    if let Some(port) = value.strip_prefix("localhost:") {
        let port = port.parse().map_err(|_| wrong())?;
        return Ok(DnsAddress { ip: None, port });
    }
    let address: std::net::SocketAddr = value.parse().map_err(|_| wrong())?;
    Ok(DnsAddress {
        ip: Some(address.ip()),
        port: address.port(),
    })
}
