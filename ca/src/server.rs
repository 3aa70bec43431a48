//! The authority's side.

mod authenticate;
mod authority;
mod authorize;
mod clock;
mod csr;
mod directory;
mod files;
mod issues;
mod jwt;
mod key;
mod limit;
mod material;
mod observe;
mod plugged;
mod revocation;
pub mod rotation;
mod service;
mod store;
mod stored;
#[cfg(test)]
mod testing;
mod token;

pub use authenticate::{AuthError, Authenticator, Caller, bearer_token};
pub use authority::{Authority, AuthorityError, DEFAULT_TTL, Issued, MAX_TTL, ServerCertificate, SignError};
pub use authorize::{Denied, NodeAuthorizer, Pod, may_impersonate};
pub use clock::{Doubt, MAX_DIFFERENCE, Moment, SETTLED_AFTER, SettledClock};
pub use csr::{CsrError, MAX_CSR_BYTES};
pub use directory::DirectoryStore;
pub use files::FileError;
pub use issues::{IssueLog, Issued as IssuedCertificate, MAX_REMEMBERED, Selection, SelectionError};
pub use jwt::JwtAuthenticator;
pub use material::{MAX_CERTIFICATES, Material, MaterialError, certificate_fingerprint};
pub use observe::{IssueRecord, Observer, Refusal};
pub use plugged::{MAX_PART_BYTES, Plugged, PluggedError, plugged_parts};
pub use revocation::{Answer, MAX_ORDERS, MAX_REVOKED, Order, Revocations, RevokeError, parse_serial};
pub use service::{Service, ServiceConfig};
pub use store::{AuthorityStore, StoreError, Versioned, load_material, load_or_create};
pub use stored::{KeyAndCertificate, ROOT_LIFE, StoredAuthority};
pub use token::{SignerError, TokenSigner, TokenSubject};
