//! Everything that the verifier promises, tried from outside: vectors, properties, known answers, chains.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

#[cfg(feature = "build")]
mod cargo_builds;
mod chains;
#[cfg(feature = "build")]
mod embedding;
mod fixture;
mod forge;
mod generate;
mod known_answers;
mod live;
#[cfg(any(feature = "actix", feature = "tower"))]
mod middleware;
mod properties;
mod reasons;
mod requests;
mod rsa;
mod vectors;
