//! The messages of `profile.proto`, as far as they are written here. Texts are places in [`Profile::string_table`].

/// A profile.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Profile {
    /// What the values of samples are.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// Stacks, with how much was seen of each.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// Files, where they are loaded.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// Addresses in code.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// Functions.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// Texts; the first is empty.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// A regular expression, 0 for none: functions whose whole name is such, and whom they call, are not shown.
    #[prost(int64, tag = "7")]
    pub drop_frames: i64,
    /// When it began, in nanoseconds since 1970.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// How long it took, in nanoseconds.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// What the period is of.
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// From one sample to the next.
    #[prost(int64, tag = "12")]
    pub period: i64,
    /// Remarks.
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
}

/// What a value is.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ValueType {
    /// Its name.
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// Its unit.
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// A stack.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sample {
    /// Its frames, the innermost first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// A value for each of the sample types.
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    /// More about it.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// Something about a sample.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Label {
    /// Its name.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// Its text.
    #[prost(int64, tag = "2")]
    pub str: i64,
}

/// A file, loaded.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Mapping {
    /// Its number, not 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Where it begins.
    #[prost(uint64, tag = "2")]
    pub memory_start: u64,
    /// Where it ends.
    #[prost(uint64, tag = "3")]
    pub memory_limit: u64,
    /// What of the file is there.
    #[prost(uint64, tag = "4")]
    pub file_offset: u64,
    /// Its name.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// The linker's mark of the build.
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    /// Whether the locations in it have functions.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
}

/// An address in code.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Location {
    /// Its number, not 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The mapping that it is in; 0 for none.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// The address.
    #[prost(uint64, tag = "3")]
    pub address: u64,
    /// The function there.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
}

/// A place in a function.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Line {
    /// The function's number.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    /// The line; 0 for unknown.
    #[prost(int64, tag = "2")]
    pub line: i64,
}

/// A function.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Function {
    /// Its number, not 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its name for people.
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// Its name for the linker.
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    /// Its file.
    #[prost(int64, tag = "4")]
    pub filename: i64,
    /// The line that it begins in; 0 for unknown.
    #[prost(int64, tag = "5")]
    pub start_line: i64,
}
