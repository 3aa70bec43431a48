//! The names of functions, from the symbol tables of the files.

use crate::modules::{self, Module};
use object::{Object, ObjectSymbol, ObjectSymbolTable, ReadCache, SymbolIndex, SymbolKind};
use std::collections::{BTreeSet, HashMap};

/// The name of a function as people write it, and as the linker does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) plain: String,
    pub(crate) linked: String,
}

/// The names at these addresses (in memory), all of them in `module`. Those that have none are left out.
pub(crate) fn of(module: &Module, addresses: &BTreeSet<u64>) -> HashMap<u64, Name> {
    let own = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let Some(file) = modules::open(&module.path, &own) else {
        return HashMap::new();
    };
    let cache = ReadCache::new(file);
    let Ok(file) = object::File::parse(&cache) else {
        return HashMap::new();
    };
    // A file that was stripped still says what it offers to others.
    let table = file.symbol_table().or_else(|| file.dynamic_symbol_table());
    let Some(table) = table else {
        return HashMap::new();
    };
    let functions = functions(table.symbols());
    let found = addresses.iter().filter_map(|address| {
        let wanted = address.wrapping_sub(module.bias);
        let next = functions.partition_point(|function| function.address <= wanted);
        let function = &functions[next.checked_sub(1)?];
        // Functions written in assembler often do not say how long they are.
        if function.size != 0 && wanted - function.address >= function.size {
            return None;
        }
        let linked = table.symbol_by_index(function.index).ok()?;
        let linked = linked.name().ok()?.to_owned();
        let plain = format!("{:#}", rustc_demangle::demangle(&linked));
        Some((*address, Name { plain, linked }))
    });
    found.collect()
}

struct Function {
    address: u64,
    size: u64,
    index: SymbolIndex,
}

fn functions<'data>(symbols: impl Iterator<Item = impl ObjectSymbol<'data>>) -> Vec<Function> {
    let mut functions: Vec<Function> = symbols
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition())
        .map(|symbol| Function {
            address: symbol.address(),
            size: symbol.size(),
            index: symbol.index(),
        })
        .collect();
    functions.sort_by_key(|function| function.address);
    functions
}
