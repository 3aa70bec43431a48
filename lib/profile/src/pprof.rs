//! Writing a profile as pprof reads it: `profile.proto` of github.com/google/pprof, compressed by gzip.

use crate::modules::Module;
use crate::names;
use flate2::Compression;
use flate2::write::GzEncoder;
use messages::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

pub mod messages;

/// What a profile says.
#[derive(Debug, Default)]
pub(crate) struct Content<'a> {
    /// What the values of each row are: name and unit.
    pub(crate) values: &'a [(&'a str, &'a str)],
    pub(crate) rows: Vec<Row<'a>>,
    pub(crate) began: Option<SystemTime>,
    pub(crate) duration: Duration,
    /// From one sample to the next, of the last kind of value.
    pub(crate) period: i64,
    /// A regular expression: who is called in a function of such a name is not shown, nor is the function.
    pub(crate) hidden: &'a str,
    pub(crate) remarks: Vec<String>,
}

/// A stack, with how much was seen of it.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    /// Addresses, the innermost frame first.
    pub(crate) frames: &'a [u64],
    pub(crate) values: Vec<i64>,
    /// Name of the thread, where stacks of threads are told apart.
    pub(crate) thread: Option<&'a str>,
}

/// The profile's bytes.
pub(crate) fn write(content: &Content<'_>, modules: &[Module]) -> io::Result<Vec<u8>> {
    let profile = build(content, modules);
    let mut compressed = GzEncoder::new(Vec::new(), Compression::default());
    compressed.write_all(&profile.encode_to_vec())?;
    compressed.finish()
}

fn build(content: &Content<'_>, modules: &[Module]) -> Profile {
    let mut strings = Strings::new();
    let places = Places::of(&content.rows, modules);
    let samples = content.rows.iter().map(|row| {
        let ids = row.frames.iter().filter_map(|address| places.ids.get(address));
        let label = row.thread.map(|name| Label {
            key: strings.put("thread"),
            str: strings.put(name),
        });
        Sample {
            location_id: ids.copied().collect(),
            value: row.values.clone(),
            label: label.into_iter().collect(),
        }
    });
    let sample = samples.collect();
    let kinds = content.values.iter().map(|(name, unit)| ValueType {
        r#type: strings.put(name),
        unit: strings.put(unit),
    });
    let sample_type: Vec<ValueType> = kinds.collect();
    let since_1970 = content
        .began
        .and_then(|began| began.duration_since(SystemTime::UNIX_EPOCH).ok());
    let mut profile = Profile {
        period_type: sample_type.last().copied(),
        sample_type,
        sample,
        drop_frames: strings.put(content.hidden),
        time_nanos: since_1970.map_or(0, nanoseconds),
        duration_nanos: nanoseconds(content.duration),
        period: content.period,
        comment: content.remarks.iter().map(|remark| strings.put(remark)).collect(),
        ..Profile::default()
    };
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
    fn of(rows: &[Row<'_>], modules: &[Module]) -> Self {
        let addresses: BTreeSet<u64> = rows.iter().flat_map(|row| row.frames).copied().collect();
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

pub(crate) fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
