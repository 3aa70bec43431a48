//! Writing a profile as pprof reads it: `profile.proto` of github.com/google/pprof, compressed by gzip.

use crate::modules::Module;
use crate::names;
use crate::stacks::Stacks;
use flate2::Compression;
use flate2::write::GzEncoder;
use messages::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

pub mod messages;

/// How a profile was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) began: SystemTime,
    pub(crate) duration: Duration,
    /// Processor time that a sample stands for.
    pub(crate) period: Duration,
    /// Samples lost for want of room.
    pub(crate) lost: u64,
    /// Samples whose stacks were too many.
    pub(crate) left_out: u64,
}

/// The profile's bytes.
pub(crate) fn write(taken: &Taken, stacks: &Stacks, modules: &[Module]) -> io::Result<Vec<u8>> {
    let profile = build(taken, stacks, modules);
    let mut compressed = GzEncoder::new(Vec::new(), Compression::default());
    compressed.write_all(&profile.encode_to_vec())?;
    compressed.finish()
}

fn build(taken: &Taken, stacks: &Stacks, modules: &[Module]) -> Profile {
    let mut strings = Strings::new();
    let period = nanoseconds(taken.period);
    let places = Places::of(stacks, modules);
    let key = strings.put("thread");
    let samples = stacks.iter().map(|seen| {
        let times = i64::try_from(seen.times).unwrap_or(i64::MAX);
        let ids = seen.frames.iter().filter_map(|address| places.ids.get(address));
        Sample {
            location_id: ids.copied().collect(),
            value: vec![times, times.saturating_mul(period)],
            label: vec![Label {
                key,
                str: strings.put(seen.thread),
            }],
        }
    });
    let sample = samples.collect();
    let mut kind = |name, unit| ValueType {
        r#type: strings.put(name),
        unit: strings.put(unit),
    };
    let (count, cpu) = (kind("samples", "count"), kind("cpu", "nanoseconds"));
    let mut profile = Profile {
        sample_type: vec![count, cpu],
        sample,
        time_nanos: taken
            .began
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, nanoseconds),
        duration_nanos: nanoseconds(taken.duration),
        period_type: Some(cpu),
        period,
        ..Profile::default()
    };
    for (what, how_many) in [
        ("samples lost because they came too fast", taken.lost),
        (
            "samples left out because there were too many different stacks",
            taken.left_out,
        ),
    ] {
        if how_many > 0 {
            profile.comment.push(strings.put(&format!("{how_many} {what}")));
        }
    }
    places.put_into(&mut profile, &mut strings, modules);
    profile.string_table = strings.list;
    profile
}

/// The addresses of all frames.
struct Places {
    /// The id of each; ids count from 1.
    ids: BTreeMap<u64, u64>,
    /// The number of the module that each lies in.
    within: HashMap<u64, usize>,
}

impl Places {
    fn of(stacks: &Stacks, modules: &[Module]) -> Self {
        let addresses: BTreeSet<u64> = stacks.iter().flat_map(|seen| seen.frames).copied().collect();
        let within = |address: &u64| {
            let module = modules.iter().position(|module| module.range.contains(address))?;
            Some((*address, module))
        };
        Self {
            within: addresses.iter().filter_map(within).collect(),
            ids: addresses.into_iter().zip(1..).collect(),
        }
    }

    /// Writes locations, the functions there, and the modules.
    fn put_into(&self, profile: &mut Profile, strings: &mut Strings, modules: &[Module]) {
        let mut functions: HashMap<String, u64> = HashMap::new();
        let mut names = HashMap::new();
        for (number, module) in modules.iter().enumerate() {
            let here = self
                .ids
                .keys()
                .filter(|address| self.within.get(address) == Some(&number));
            let here: BTreeSet<u64> = here.copied().collect();
            let named = if here.is_empty() {
                HashMap::new()
            } else {
                names::of(module, &here)
            };
            profile.mapping.push(Mapping {
                id: number as u64 + 1,
                memory_start: module.range.start,
                memory_limit: module.range.end,
                file_offset: module.offset,
                filename: strings.put(&module.path),
                build_id: strings.put(&module.build_id),
                has_functions: !named.is_empty(),
            });
            names.extend(named);
        }
        for (address, id) in &self.ids {
            let line = names.get(address).map(|name| {
                let next = functions.len() as u64 + 1;
                let function_id = *functions.entry(name.linked.clone()).or_insert_with(|| {
                    profile.function.push(Function {
                        id: next,
                        name: strings.put(&name.plain),
                        system_name: strings.put(&name.linked),
                        filename: 0,
                        start_line: 0,
                    });
                    next
                });
                Line { function_id, line: 0 }
            });
            profile.location.push(Location {
                id: *id,
                mapping_id: self.within.get(address).map_or(0, |number| *number as u64 + 1),
                address: *address,
                line: line.into_iter().collect(),
            });
        }
    }
}

/// The table of strings; the first is the empty one.
struct Strings {
    list: Vec<String>,
    places: HashMap<String, i64>,
}

impl Strings {
    fn new() -> Self {
        Self {
            list: vec![String::new()],
            places: HashMap::from([(String::new(), 0)]),
        }
    }

    fn put(&mut self, text: &str) -> i64 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = self.list.len() as i64;
        self.list.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        place
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
