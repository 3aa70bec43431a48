//! What is measured, step by step.

use std::path::Path;
use std::time::{Duration, Instant};

use ca::TokenSigner;
use serde_json::Value;

use super::Outcome;
use super::mesh::Size;
use super::process::{Part, open_many_files};
use super::report::{Figures, Report};

/// What is to be measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The mesh
    #[command(flatten)]
    pub size: Size,
    /// How many node proxies are connected
    #[arg(long, default_value_t = 1_000)]
    pub streams: u32,
    /// How many of them read and check everything
    #[arg(long, default_value_t = 20)]
    pub checked: u32,
    /// How many changes of a single pod are timed one by one
    #[arg(long, default_value_t = 100)]
    pub changes: u32,
    /// How long there are a hundred changes a second, in seconds
    #[arg(long, default_value_t = 20)]
    pub seconds: u32,
    /// Do not measure the memory over a Kubernetes API
    #[arg(long)]
    pub without_memory: bool,
}

/// Changes a second of the busy step.
const RATE: u32 = 100;
/// How long the streams may take to catch up after it.
const CATCH_UP: Duration = Duration::from_secs(60);

/// Measures the mesh and a tenth of it, and prints both.
pub fn drive(options: &Options) -> Outcome<()> {
    open_many_files()?;
    let sizes = [options.size.tenth(), options.size];
    let figures = sizes
        .iter()
        .map(|size| measure(options, *size))
        .collect::<Outcome<Vec<_>>>()?;
    print!("{}", Report(&figures));
    Ok(())
}

fn measure(options: &Options, size: Size) -> Outcome<Figures> {
    let mut figures = Figures::new(size, options.streams);
    if !options.without_memory {
        memory(size, &mut figures)?;
    }
    let folder = folder()?;
    let mut plane = Part::start("plane", &plane_arguments(size, folder.path()))?;
    let started = plane.answer()?;
    figures.compile = seconds(&started);
    let address = started["address"].as_str().ok_or("no address")?.to_owned();

    let mut first = streams(size, folder.path(), &address, 1, 1)?;
    figures.first_answer = seconds(&first.ask("complete")?);
    drop(first);

    let mut clients = streams(size, folder.path(), &address, options.streams, options.checked)?;
    let before = plane.processor_time()?;
    let complete = clients.ask("complete")?;
    figures.all_connected = seconds(&complete);
    figures.all_connected_bytes = bytes(&complete);
    figures.all_connected_cpu = plane.processor_time()?.saturating_sub(before);
    figures.memory_connected = plane.memory()?;

    let before = plane.processor_time()?;
    for _ in 0..options.changes {
        clients.ask("mark")?;
        let begun = Instant::now();
        plane.ask("change")?;
        let reached = clients.ask("reached")?;
        figures.times.push(begun.elapsed());
        figures.change_bytes.push(bytes(&reached));
    }
    figures.change_cpu = plane.processor_time()?.saturating_sub(before) / options.changes.max(1);

    let (before, begun) = (plane.processor_time()?, Instant::now());
    plane.ask(&format!("rate {RATE} {}", options.seconds))?;
    let used = plane.processor_time()?.saturating_sub(before);
    figures.busy_cpu = used.as_secs_f64() / begun.elapsed().as_secs_f64();
    figures.catch_up = catch_up(&mut plane, &mut clients, options.checked)?;
    Ok(figures)
}

/// The memory of a control plane that reads a Kubernetes API.
fn memory(size: Size, figures: &mut Figures) -> Outcome<()> {
    let mut api = Part::start("objects", &size.arguments())?;
    let url = api.answer()?["url"].as_str().ok_or("no URL")?.to_owned();
    let folder = folder()?;
    let mut arguments = plane_arguments(size, folder.path());
    arguments.extend(["--kubernetes-url".to_owned(), url]);
    let mut plane = Part::start("plane", &arguments)?;
    let started = plane.answer()?;
    figures.kubernetes_start = seconds(&started);
    figures.memory = bytes(&started);
    Ok(())
}

/// Waits until everybody who checks knows the mesh as it is.
fn catch_up(plane: &mut Part, clients: &mut Part, checked: u32) -> Outcome<Duration> {
    let wanted = plane.ask("digest")?["digest"].clone();
    let begun = Instant::now();
    loop {
        let answer = clients.ask("digests")?;
        let digests = answer["digests"].as_object().ok_or("no digests")?;
        let right = digests.values().filter(|digest| **digest == wanted).count();
        if right == checked as usize {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() > CATCH_UP {
            return Err(
                format!("{right} of {checked} streams know the mesh as it is after {CATCH_UP:?}").into(),
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn streams(size: Size, folder: &Path, address: &str, streams: u32, checked: u32) -> Outcome<Part> {
    let mut arguments = size.arguments();
    let more = [
        ("--directory", folder.display().to_string()),
        ("--address", address.to_owned()),
        ("--streams", streams.to_string()),
        ("--checked", checked.to_string()),
    ];
    arguments.extend(
        more.into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value]),
    );
    Part::start("streams", &arguments)
}

fn plane_arguments(size: Size, folder: &Path) -> Vec<String> {
    let mut arguments = size.arguments();
    arguments.extend(["--directory".to_owned(), folder.display().to_string()]);
    arguments
}

/// A folder with the keys that both ends need.
fn folder() -> Outcome<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let signer = TokenSigner::load_or_create(&folder.path().join("token-key.pem"))?;
    std::fs::write(folder.path().join("token-keys.pem"), signer.public_key_pem())?;
    Ok(folder)
}

fn seconds(answer: &Value) -> Duration {
    Duration::from_secs_f64(answer["seconds"].as_f64().unwrap_or_default())
}

fn bytes(answer: &Value) -> u64 {
    answer["bytes"].as_u64().unwrap_or_default()
}
