//! One event, one line.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::Format;
use super::text;

/// Formats events as text or JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineFormat {
    format: Format,
}

impl LineFormat {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields {
            format: self.format,
            message: String::new(),
            rest: String::new(),
        };
        event.record(&mut fields);
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let level = level_name(*event.metadata().level());
        let target = event.metadata().target();
        match self.format {
            Format::Text => {
                write!(out, "{time}\t{level}\t{target}\t{}", fields.message)?;
                if !fields.rest.is_empty() {
                    write!(out, "\t{}", fields.rest)?;
                }
                for span in context.event_scope().into_iter().flatten() {
                    write!(out, "\t{}", span.name())?;
                    if let Some(of_span) = span.extensions().get::<FormattedFields<N>>()
                        && !of_span.is_empty()
                    {
                        write!(out, "{{{of_span}}}")?;
                    }
                }
            }
            Format::Json => {
                let message = if fields.message.is_empty() {
                    "\"\""
                } else {
                    &fields.message
                };
                write!(
                    out,
                    r#"{{"level":"{level}","time":"{time}","scope":"{target}","message":{message}"#
                )?;
                if !fields.rest.is_empty() {
                    write!(out, ",{}", fields.rest)?;
                }
                out.write_char('}')?;
            }
        }
        writeln!(out)
    }
}

/// Formats a span's fields.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EscapedFields;

impl<'writer> FormatFields<'writer> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, mut out: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = Fields {
            format: Format::Text,
            message: String::new(),
            rest: String::new(),
        };
        fields.record(&mut visitor);
        out.write_str(&visitor.message)?;
        out.write_str(&visitor.rest)
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

struct Fields {
    format: Format,
    message: String,
    rest: String,
}

impl Fields {
    fn begin(&mut self, name: &str) {
        if !self.rest.is_empty() {
            self.rest.push(match self.format {
                Format::Text => ' ',
                Format::Json => ',',
            });
        }
        match self.format {
            Format::Text => {
                self.rest.push_str(name);
                self.rest.push('=');
            }
            Format::Json => {
                text::quoted(&mut self.rest, name);
                self.rest.push(':');
            }
        }
    }

    fn is_message(&mut self, field: &Field, value: &str) -> bool {
        if field.name() != "message" {
            return false;
        }
        match self.format {
            Format::Text => text::one_line(&mut self.message, value),
            Format::Json => text::quoted(&mut self.message, value),
        }
        true
    }

    /// A value that both formats write without quotes.
    fn bare(&mut self, field: &Field, value: impl fmt::Display) {
        self.begin(field.name());
        // Writing into a string cannot fail.
        let _: fmt::Result = write!(self.rest, "{value}");
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if !self.is_message(field, value) {
            self.begin(field.name());
            text::quoted(&mut self.rest, value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        if self.is_message(field, &value) {
            return;
        }
        self.begin(field.name());
        match self.format {
            Format::Text => text::plain_or_quoted(&mut self.rest, &value),
            Format::Json => text::quoted(&mut self.rest, &value),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.bare(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.bare(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.bare(field, value);
        } else {
            // JSON has no word for these.
            self.record_str(field, &value.to_string());
        }
    }
}
