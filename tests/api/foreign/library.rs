//! Installs a JWT library that we did not write from its registry, pinned.

use std::path::{Path, PathBuf};

use super::packages::{Registry, install};

/// A library of another language, with the script that uses it as a backend would.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Library {
    /// npm `jose` on Node.js.
    Jose,
    /// joserfc on Python.
    Joserfc,
    /// PyJWT on Python.
    PyJwt,
    /// Debian's ruby-jwt, with ruby-rbnacl for Ed25519.
    RubyJwt,
}

impl Library {
    /// The folder that holds the library: a virtual environment, or one with `node_modules`. Ruby's are Debian's.
    pub(crate) fn install(self) -> PathBuf {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign-jwt").join(match self {
            Self::Jose => JOSE.replace('@', "-"),
            Self::Joserfc => JOSERFC.replace("==", "-"),
            Self::PyJwt => PYJWT.replace("==", "-"),
            Self::RubyJwt => "of-the-system".to_owned(),
        });
        match self {
            Self::Jose => install(&folder, Registry::Npm, &[JOSE]),
            Self::Joserfc => install(&folder, Registry::PyPi, &[JOSERFC, CRYPTOGRAPHY]),
            Self::PyJwt => install(&folder, Registry::PyPi, &[PYJWT, CRYPTOGRAPHY]),
            Self::RubyJwt => {}
        }
        folder
    }
}

const CRYPTOGRAPHY: &str = "cryptography==50.0.2";
const JOSE: &str = "jose@6.2.17";
const JOSERFC: &str = "joserfc==1.8.0";
const PYJWT: &str = "PyJWT==2.15.1";
