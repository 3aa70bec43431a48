//! The program and its libraries, as they are loaded.

use object::elf::PF_X;
use object::{Object, ObjectSection, ObjectSegment, ReadCache, SegmentFlags};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// The longest unwind table that is read, in bytes; one that is longer is passed over.
pub const MAX_SECTION: u64 = 64 << 20;

/// The most modules that are looked at.
const MAX_MODULES: usize = 256;

/// The longest object of the kernel's own in this process, in bytes.
const MAX_VDSO: u64 = 1 << 20;

/// The program itself, whatever became of its file.
const SELF: &str = "/proc/self/exe";

/// What the kernel brings into every process for calls that need not enter it.
const VDSO: &str = "[vdso]";

/// Why it is not known what is loaded.
#[derive(Debug, thiserror::Error)]
#[error("cannot read what is loaded from /proc/self/maps: {0}")]
pub struct ModulesError(#[from] io::Error);

/// One executable mapping, with what is needed of its file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Module {
    /// The file.
    pub(crate) path: String,
    /// Where it is loaded.
    pub(crate) range: Range<u64>,
    /// Offset of the mapping in the file.
    pub(crate) offset: u64,
    /// What is to be added to an address of the file for the one in memory. It may wrap around.
    pub(crate) bias: u64,
    /// The linker's mark of this build, in hexadecimal; empty where there is none.
    pub(crate) build_id: String,
    pub(crate) text: Option<Range<u64>>,
    pub(crate) got: Option<Range<u64>>,
    pub(crate) eh_frame: Option<Section>,
    pub(crate) eh_frame_hdr: Option<Section>,
}

/// A part of a file, with its addresses there.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) range: Range<u64>,
    pub(crate) data: Arc<[u8]>,
}

/// What is loaded now. A file that cannot be read has no tables: frames in it end the stack.
pub(crate) fn loaded() -> Result<Vec<Module>, ModulesError> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let own = fs::read_link(SELF).unwrap_or_default();
    let mappings = maps.lines().filter_map(mapping).take(MAX_MODULES);
    Ok(mappings.map(|mapping| described(mapping, &own)).collect())
}

/// An executable mapping of a file, proc_pid_maps(5).
fn mapping(line: &str) -> Option<Module> {
    let mut fields = line.splitn(6, ' ');
    let (range, access, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let path = fields.nth(2)?.trim_start();
    if access.as_bytes().get(2) != Some(&b'x') || !(path.starts_with('/') || path == VDSO) {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(Module {
        path: path.to_owned(),
        range: number(start)?..number(end)?,
        offset: number(offset)?,
        ..Module::default()
    })
}

fn described(module: Module, own: &Path) -> Module {
    let known = if module.path == VDSO {
        from_memory(&module)
    } else {
        open(&module.path, own)
            .and_then(|file| read(&module, &object::File::parse(&ReadCache::new(file)).ok()?))
    };
    known.unwrap_or(module)
}

/// The file of a module, for its names too.
pub(crate) fn open(path: &str, own: &Path) -> Option<File> {
    File::open(if Path::new(path) == own {
        SELF.as_ref()
    } else {
        Path::new(path)
    })
    .ok()
}

fn from_memory(module: &Module) -> Option<Module> {
    let length = module.range.end.checked_sub(module.range.start)?;
    let mut bytes = vec![0; usize::try_from(length.min(MAX_VDSO)).ok()?];
    let memory = File::open("/proc/self/mem").ok()?;
    memory.read_exact_at(&mut bytes, module.range.start).ok()?;
    read(module, &object::File::parse(&*bytes).ok()?)
}

fn read<'data, R: object::ReadRef<'data>>(module: &Module, file: &object::File<'data, R>) -> Option<Module> {
    let segment = file.segments().find(|segment| {
        let (begins, length) = segment.file_range();
        let executable = matches!(segment.flags(), SegmentFlags::Elf { p_flags, .. } if p_flags & PF_X != 0);
        // Mappings begin at whole pages, segments need not.
        executable
            && begins < module.offset + (module.range.end - module.range.start)
            && module.offset < begins + length
    })?;
    let (begins, _) = segment.file_range();
    let address = segment.address().wrapping_sub(begins).wrapping_add(module.offset);
    let range = |name| {
        let section = file.section_by_name(name)?;
        Some(section.address()..section.address().checked_add(section.size())?)
    };
    let whole = |name| {
        let section = file.section_by_name(name)?;
        let data = (section.size() <= MAX_SECTION).then(|| section.data().ok())??;
        Some(Section {
            range: range(name)?,
            data: data.into(),
        })
    };
    let build_id = file.build_id().ok().flatten().unwrap_or_default();
    Some(Module {
        bias: module.range.start.wrapping_sub(address),
        build_id: build_id.iter().map(|byte| format!("{byte:02x}")).collect(),
        text: range(".text"),
        got: range(".got"),
        eh_frame: whole(".eh_frame"),
        eh_frame_hdr: whole(".eh_frame_hdr"),
        ..module.clone()
    })
}

#[cfg(test)]
mod tests;
