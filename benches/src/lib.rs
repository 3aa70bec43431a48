//! Benches of the data path, and what they share: certificates, the paths that are compared, and the table of ratios.
//!
//! A figure means something only beside the floor (plain TCP) and its peers in the same run on the same machine, so
//! everything here measures several paths together and prints ratios. It deliberately holds no threshold: absolute
//! times on shared machines prove nothing.

mod certificates;
mod decisions;
mod endpoints;
mod manifests;
mod paths;
pub mod scale;
mod signing;
mod table;

pub use certificates::{Mesh, workload};
pub use decisions::{Callers, Decisions};
pub use endpoints::Endpoints;
pub use manifests::Manifests;
pub use paths::{Kind, Path, Work};
pub use signing::{Signing, Thousand};
pub use table::Table;
