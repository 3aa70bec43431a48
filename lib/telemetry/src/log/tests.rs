use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use proptest::prelude::*;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

/// Where a test's log goes.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `work` logs, through the queue and the format of the product.
pub(crate) fn logged(format: Format, filter: &str, work: impl FnOnce()) -> String {
    let lines = Lines::default();
    let (queue, guard) = Queue::start(lines.clone()).unwrap();
    let layer = fmt::layer()
        .with_ansi(false)
        .fmt_fields(EscapedFields)
        .event_format(LineFormat::new(format))
        .with_writer(queue);
    let subscriber = tracing_subscriber::registry()
        .with(parse(filter).unwrap())
        .with(layer);
    tracing::subscriber::with_default(subscriber, work);
    assert!(guard.flush());
    lines.text()
}

/// A line without the time it begins with.
fn after_time(line: &str) -> &str {
    let (time, rest) = line.split_once('\t').unwrap();
    assert!(time.ends_with('Z') && time.len() >= 20, "{time}");
    rest
}

#[test]
fn text_has_scope_message_and_fields() {
    let text = logged(Format::Text, "info", || {
        let count = 3;
        tracing::warn!(target: "proxy", name = "a b", count, ok = true, addr = %"10.0.0.1:80", "two words");
        tracing::debug!("not wanted");
    });
    assert_eq!(
        after_time(&text),
        "warn\tproxy\ttwo words\tname=\"a b\" count=3 ok=true addr=10.0.0.1:80\n"
    );
}

#[test]
fn json_is_json_with_typed_values() {
    let text = logged(Format::Json, "info", || {
        tracing::error!(target: "proxy", name = "a \"b\"\n", count = 3, ratio = f64::NAN, list = ?[1, 2], "m\u{1b}");
        tracing::info!(only = 1);
    });
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["level"], "error");
    assert_eq!(lines[0]["scope"], "proxy");
    assert_eq!(lines[0]["message"], "m\u{1b}");
    assert_eq!(lines[0]["name"], "a \"b\"\n");
    assert_eq!(lines[0]["count"], 3);
    assert_eq!(lines[0]["ratio"], "NaN");
    assert_eq!(lines[0]["list"], "[1, 2]");
    assert_eq!(lines[1]["message"], "");
}

#[test]
fn values_cannot_forge_lines_fields_or_escape_sequences() {
    let forged = "x\n2026-01-01T00:00:00Z\tinfo\taccess\tforged\u{1b}[31m\u{202e}";
    for value in [
        forged,
        "\"a\" src.identity=\"admin\"",
        "\"a\\\"",
        "",
        "a=b",
        "back\\slash",
    ] {
        let text = logged(Format::Text, "info", || {
            tracing::info!(display = %value, debug = ?value, text = value, "message {value}");
        });
        assert_eq!(text.lines().count(), 1, "{text:?}");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
        let fields = text.trim_end().splitn(5, '\t').nth(4).unwrap();
        // Read back: each field is a name and one quoted string.
        let mut rest = fields;
        for name in ["display", "debug", "text"] {
            rest = rest
                .strip_prefix(name)
                .and_then(|r| r.strip_prefix('='))
                .expect(name);
            let end = quoted_end(rest).expect(fields);
            rest = rest[end..].trim_start();
        }
        assert_eq!(rest, "", "{text:?}");
    }
}

/// Where the quoted string that `text` begins with ends.
fn quoted_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (index, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return text.starts_with('"').then_some(index + 1),
            _ => {}
        }
    }
    None
}

#[test]
fn spans_are_named_and_their_fields_escaped() {
    let text = logged(Format::Text, "info", || {
        tracing::info_span!("pod", name = "a\nb").in_scope(|| tracing::info!("inside"));
    });
    assert_eq!(text.lines().count(), 1);
    assert!(text.ends_with("inside\tpod{name=\"a\\nb\"}\n"), "{text:?}");
}

#[test]
fn long_values_are_cut() {
    let long = "x".repeat(1 << 20);
    let text = logged(
        Format::Json,
        "info",
        || tracing::info!(value = long.as_str(), %long, "{long}"),
    );
    assert!(text.len() < 4 * text::MAX_VALUE, "{}", text.len());
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(line["value"].as_str().unwrap().ends_with("x…"));
}

/// An output that takes nothing until it is told to.
struct Stuck(Receiver<()>, Lines);

impl Stuck {
    fn new() -> (Sender<()>, Lines, Self) {
        let (release, stuck) = channel();
        let lines = Lines::default();
        (release, lines.clone(), Self(stuck, lines))
    }
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Once the sender is gone it is stuck no more.
        let _ = self.0.recv();
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_does_not_read_costs_lines_and_no_time() {
    let (release, lines, stuck) = Stuck::new();
    let (queue, guard) = Queue::start(stuck).unwrap();
    let extra = 5_000;
    // One buffer's worth of lines may already be with the thread.
    let taken = (64 << 10) / 8 + 1;
    for _ in 0..MAX_QUEUED_LINES + taken + extra {
        queue.push(b"a line.\n");
    }
    let dropped = guard.dropped().count();
    assert!(dropped >= extra as u64, "{dropped}");
    drop(release);
    assert!(guard.flush());
    let written = lines.text().lines().count() as u64;
    assert_eq!(
        written + dropped,
        (MAX_QUEUED_LINES + taken + extra) as u64,
        "every line is written or counted"
    );
}

#[test]
fn the_queue_is_bounded_in_bytes_too() {
    let (release, _, stuck) = Stuck::new();
    let (queue, guard) = Queue::start(stuck).unwrap();
    let line = vec![b'x'; MAX_LINE + 10];
    let fit = MAX_QUEUED_BYTES / MAX_LINE;
    for _ in 0..fit + 20 {
        queue.push(&line);
    }
    let dropped = guard.dropped().count();
    // One line may be with the thread.
    assert!((19..=20).contains(&dropped), "{dropped}");
    drop(release);
    assert!(guard.flush());
    // What was written makes room again.
    queue.push(b"more\n");
    assert!(guard.flush());
    assert_eq!(guard.dropped().count(), dropped);
}

#[test]
fn an_end_with_a_stuck_reader_takes_bounded_time() {
    let (release, _, stuck) = Stuck::new();
    let (queue, guard) = Queue::start(stuck).unwrap();
    queue.push(b"line\n");
    let began = std::time::Instant::now();
    assert!(!guard.flush());
    assert!(began.elapsed() < Duration::from_secs(10));
    drop(release);
    assert!(guard.flush());
}

#[test]
fn a_broken_output_is_counted_and_survived() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (queue, guard) = Queue::start(Broken).unwrap();
    queue.push(b"line\n");
    assert!(guard.flush());
    assert!(guard.dropped().count() >= 1);
    queue.push(b"line\n");
    assert!(guard.flush(), "the thread lives");
}

/// The process's log can be installed once, so everything about that is one test.
#[test]
fn the_filter_changes_while_the_process_runs() {
    let settings = LogSettings {
        filter: "warn,access=off".into(),
        ..LogSettings::default()
    };
    let wrong = LogSettings {
        filter: "proxy=loud".into(),
        ..settings.clone()
    };
    let error = init(&wrong).unwrap_err();
    assert!(error.to_string().contains("proxy=loud"), "{error}");

    let settings = LogSettings {
        output: LogOutput::Stderr,
        ..settings
    };
    let (guard, filter) = init(&settings).unwrap();
    assert!(matches!(init(&settings), Err(InitError::Twice)));
    assert_eq!(filter.current(), "warn,access=off");
    assert!(!tracing::enabled!(tracing::Level::DEBUG));
    filter.set("debug").unwrap();
    assert!(tracing::enabled!(tracing::Level::DEBUG));
    assert!(filter.set("nonsense=nonsense").is_err());
    assert_eq!(filter.current(), "debug");
    filter.reset().unwrap();
    assert_eq!(filter.current(), "warn,access=off");
    assert!(!tracing::enabled!(tracing::Level::DEBUG));
    assert!(guard.flush());
}

proptest! {
    #[test]
    fn any_value_stays_one_line_and_valid_json(value in "\\PC*|[\\x00-\\x7f]*", message in any::<String>()) {
        let work = || tracing::info!(value = value.as_str(), debug = ?value, display = %value, "{message}");
        let json = logged(Format::Json, "info", work);
        prop_assert_eq!(json.matches('\n').count(), 1);
        let line: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(line["value"].as_str().unwrap(), &value);
        prop_assert_eq!(line["message"].as_str().unwrap(), &message);
        let text = logged(Format::Text, "info", work);
        prop_assert_eq!(text.matches('\n').count(), 1);
        prop_assert!(!text.trim_end_matches('\n').chars().any(|c| c.is_control() && c != '\t'));
        prop_assert_eq!(text.matches('\t').count(), 4);
    }
}
