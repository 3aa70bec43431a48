//! The authority's side.

mod authenticate;
mod authority;
mod authorize;
mod csr;
mod files;
mod jwt;
mod key;
mod limit;
mod service;
mod token;

pub use authenticate::{AuthError, Authenticator, Caller, bearer_token};
pub use authority::{Authority, AuthorityError, DEFAULT_TTL, Issued, MAX_TTL, ServerCertificate, SignError};
pub use authorize::{Denied, NodeAuthorizer, Pod, may_impersonate};
pub use csr::{CsrError, MAX_CSR_BYTES};
pub use files::FileError;
pub use jwt::JwtAuthenticator;
pub use service::{Service, ServiceConfig};
pub use token::{SignerError, TokenSigner, TokenSubject};
