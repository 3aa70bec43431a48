//! The process's log.

mod format;
mod queue;
#[cfg(test)]
pub(crate) mod tests;
mod text;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use format::{EscapedFields, LineFormat};
use queue::Queue;

pub use queue::{DroppedLines, LogGuard, MAX_LINE, MAX_QUEUED_BYTES, MAX_QUEUED_LINES};

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Time, level, scope, message and `name=value` pairs, separated by tabs.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Where lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogOutput {
    /// The standard output.
    #[default]
    Stdout,
    /// The standard error.
    Stderr,
}

/// What the log needs to know.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Which lines are wanted, in the syntax of `RUST_LOG` (`info,access=off`).
    pub filter: String,
    /// How they are written.
    pub format: Format,
    /// Where they go.
    pub output: LogOutput,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: Format::Text,
            output: LogOutput::Stdout,
        }
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter is wrong.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The thread that writes cannot be started.
    #[error("system: the log's thread cannot be started: {0}")]
    Thread(#[from] io::Error),
    /// The process has a log already.
    #[error("system: the process has a log already")]
    Twice,
}

/// A filter that is not understood. Whoever configured it is at fault.
#[derive(Debug, thiserror::Error)]
#[error(
    "configuration: log filter {filter:?} is not understood: {reason}; write a level (error, warn, info, debug, \
     trace, off) or scope=level, separated by commas"
)]
pub struct FilterError {
    /// The filter.
    pub filter: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Installs the process's log. Lines are written by a thread of their own, as long as the guard lives; dropping it
/// writes what is queued.
pub fn init(settings: &LogSettings) -> Result<(LogGuard, FilterHandle), InitError> {
    let filter = parse(&settings.filter)?;
    let (filter, reload) = reload::Layer::new(filter);
    let (queue, guard) = match settings.output {
        LogOutput::Stdout => Queue::start(io::stdout())?,
        LogOutput::Stderr => Queue::start(io::stderr())?,
    };
    let lines = fmt::layer()
        .with_ansi(false)
        .fmt_fields(EscapedFields)
        .event_format(LineFormat::new(settings.format))
        .with_writer(queue);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|_| InitError::Twice)?;
    let current = Arc::new(Mutex::new(settings.filter.clone()));
    Ok((
        guard,
        FilterHandle {
            reload,
            initial: settings.filter.as_str().into(),
            current,
        },
    ))
}

/// Changes the log's filter while the process runs.
#[derive(Clone, Debug)]
pub struct FilterHandle {
    reload: reload::Handle<EnvFilter, Registry>,
    initial: Arc<str>,
    current: Arc<Mutex<String>>,
}

impl FilterHandle {
    /// The filter in force.
    pub fn current(&self) -> String {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The filter that the process began with.
    pub fn initial(&self) -> &str {
        &self.initial
    }

    /// Puts another filter in force, as a whole. On an error the present one stays.
    pub fn set(&self, filter: &str) -> Result<(), FilterError> {
        let parsed = parse(filter)?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.reload.reload(parsed).map_err(|error| FilterError {
            filter: filter.to_owned(),
            reason: error.to_string(),
        })?;
        filter.clone_into(&mut current);
        Ok(())
    }

    /// Goes back to the filter the process began with.
    pub fn reset(&self) -> Result<(), FilterError> {
        let initial = self.initial.clone();
        self.set(&initial)
    }
}

fn parse(filter: &str) -> Result<EnvFilter, FilterError> {
    EnvFilter::builder().parse(filter).map_err(|error| FilterError {
        filter: filter.to_owned(),
        reason: error.to_string(),
    })
}
