//! Certificates and keys in files.

use std::path::{Path, PathBuf};

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::files::{self, FileError};

/// A larger file is refused, bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Why a file of certificates or keys is of no use.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {problem}", file = file.display())]
pub struct PemError {
    pub file: PathBuf,
    pub problem: PemProblem,
}

#[derive(Debug, thiserror::Error)]
pub enum PemProblem {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Pem(#[from] pem::Error),
    #[error("no certificate in it")]
    Empty,
}

/// All certificates of a PEM file; there is one at least.
///
/// # Errors
/// A file that cannot be read, is broken or holds none.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let read = || {
        let bytes = files::read(file, MAX_FILE_BYTES)?;
        let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>()?;
        if found.is_empty() { Err(PemProblem::Empty) } else { Ok(found) }
    };
    read().map_err(|problem| PemError { file: file.to_owned(), problem })
}

/// The first private key of a PEM file.
///
/// # Errors
/// A file that cannot be read, is broken or holds none.
pub fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let read = || {
        let bytes = files::read(file, MAX_FILE_BYTES)?;
        Ok(PrivateKeyDer::from_pem_slice(&bytes)?)
    };
    read().map_err(|problem| PemError { file: file.to_owned(), problem })
}
