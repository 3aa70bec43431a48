//! From registers and a piece of stack to the addresses of the frames, by the tables that C++ and Rust programs carry
//! for their exceptions (`.eh_frame`).

use crate::modules::Module;
use framehop::{
    CacheNative, ExplicitModuleSectionInfo, MayAllocateDuringUnwind, UnwindRegsNative, Unwinder,
    UnwinderNative,
};
use std::sync::Arc;
use sys::sampling::{Registers, Sample};

/// The most frames of a stack that are followed; those further out are left out.
pub const MAX_FRAMES: usize = 256;

/// Follows frames.
pub(crate) struct Unwinding {
    unwinder: UnwinderNative<Arc<[u8]>, MayAllocateDuringUnwind>,
    cache: CacheNative<MayAllocateDuringUnwind>,
    frames: Vec<u64>,
}

impl Unwinding {
    /// Through `modules`.
    pub(crate) fn new(modules: &[Module]) -> Self {
        let mut unwinder = UnwinderNative::new();
        for module in modules {
            unwinder.add_module(framehop::Module::new(
                module.path.clone(),
                module.range.clone(),
                module.bias,
                sections(module),
            ));
        }
        Self {
            unwinder,
            cache: CacheNative::new(),
            frames: Vec::with_capacity(MAX_FRAMES),
        }
    }

    /// The frames of a sample, innermost first: addresses of instructions, of a caller's the one before that it returns
    /// to. It ends where the tables, or the piece of stack, end.
    pub(crate) fn frames(&mut self, sample: Sample<'_>) -> &[u64] {
        let Registers { pc, sp, .. } = sample.registers;
        let mut read = |address: u64| {
            let offset = usize::try_from(address.wrapping_sub(sp)).map_err(|_| ())?;
            let word = sample.stack.get(offset..).and_then(|rest| rest.first_chunk());
            word.map(|bytes| u64::from_ne_bytes(*bytes)).ok_or(())
        };
        let mut frames =
            self.unwinder
                .iter_frames(pc, registers(sample.registers), &mut self.cache, &mut read);
        self.frames.clear();
        while self.frames.len() < MAX_FRAMES
            && let Ok(Some(frame)) = frames.next()
        {
            self.frames.push(frame.address_for_lookup());
        }
        &self.frames
    }
}

fn sections(module: &Module) -> ExplicitModuleSectionInfo<Arc<[u8]>> {
    let mut info = ExplicitModuleSectionInfo {
        base_svma: 0,
        text_svma: module.text.clone(),
        got_svma: module.got.clone(),
        ..ExplicitModuleSectionInfo::default()
    };
    if let Some(section) = &module.eh_frame {
        info.eh_frame_svma = Some(section.range.clone());
        info.eh_frame = Some(section.data.clone());
    }
    if let Some(section) = &module.eh_frame_hdr {
        info.eh_frame_hdr_svma = Some(section.range.clone());
        info.eh_frame_hdr = Some(section.data.clone());
    }
    info
}

#[cfg(target_arch = "x86_64")]
fn registers(registers: Registers) -> UnwindRegsNative {
    UnwindRegsNative::new(registers.pc, registers.sp, registers.fp)
}

#[cfg(target_arch = "aarch64")]
fn registers(registers: Registers) -> UnwindRegsNative {
    UnwindRegsNative::new(registers.lr, registers.sp, registers.fp)
}
