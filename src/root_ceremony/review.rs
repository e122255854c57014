//! One holder's signature: everything that must be so before it is made, what it would change, and the signature.

use std::path::Path;

use token_authority_verifier::{Digest, Jwk, Kid, Manifest, Root, SignedManifest, SignedRoot, Verified};

use super::document::{Document, Standing};
use super::memory::{Mark, Memory, MemoryFile};
use super::published::Published;
use super::{CeremonyError, Change, RefusedDocument, changes};
use crate::keystore::root_key::RootKey;

/// What a holder is asked to sign, and what there is to check it by.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The holder's private half.
    pub key_file: &'a Path,
    /// The draft, or a copy that others have signed.
    pub draft: &'a Document,
    /// What was published before; not needed for the first root alone.
    pub published: Option<&'a Published>,
    /// Where trust begins, for a key that has not signed yet.
    pub trust_root: Option<Digest>,
    /// What this key has signed under the same number, and which was given up.
    pub instead_of: Option<Digest>,
}

/// A draft that may be signed. Nothing was signed or remembered yet.
#[derive(Debug)]
pub struct Review {
    document: Document,
    changes: Vec<Change>,
    development: bool,
    newest_root: Option<Verified<Root>>,
    key: RootKey,
    memory: Memory,
    file: MemoryFile,
}

/// What one holder has added.
#[derive(Clone, Debug)]
pub struct Signature {
    pub document: Document,
    pub kid: Kid,
    /// How far the document has come.
    pub standings: Vec<Standing>,
}

impl Review {
    /// Checks that the draft is the next of the chain that this key signs for.
    ///
    /// # Errors
    /// See [`CeremonyError`]: nothing is signed.
    pub fn new(request: &Request<'_>) -> Result<Self, CeremonyError> {
        let key = RootKey::read(request.key_file)?;
        // Held until the signature is made: two at once must not sign two documents under one number.
        let file = MemoryFile::lock(request.key_file)?;
        let draft = request.draft;
        let memory = file.read()?.unwrap_or_else(|| Memory {
            issuer: draft.issuer().to_owned(),
            environment: draft.environment().to_owned(),
            ..Memory::default()
        });
        if (memory.issuer.as_str(), memory.environment.as_str()) != (draft.issuer(), draft.environment()) {
            return Err(CeremonyError::OtherChain {
                expected: format!("{} ({})", memory.issuer, memory.environment),
                given: format!("{} ({})", draft.issuer(), draft.environment()),
            });
        }
        match draft {
            Document::Root(root) => Self::of_root(request, root, key, memory, file),
            Document::Manifest(manifest) => Self::of_manifest(request, manifest, key, memory, file),
        }
    }

    fn of_root(
        request: &Request<'_>,
        draft: &SignedRoot,
        key: RootKey,
        mut memory: Memory,
        file: MemoryFile,
    ) -> Result<Self, CeremonyError> {
        let root = draft.unverified();
        let is_first = root.version == 1;
        let newest = if is_first { None } else { Some(follow_roots(request, &mut memory)?) };
        if let Some(newest) = &newest {
            let next = newest.version + 1;
            if root.version != next {
                return Err(CeremonyError::OutOfOrder { what: "root", next, given: root.version });
            }
            root.succeeds(newest).map_err(not_next("root"))?;
        } else if let Some(trusted) = memory.trusted_root.filter(|trusted| trusted.digest != draft.digest()) {
            let next = trusted.version + 1;
            // Before the first root was published it can be given up like any other draft.
            let is_given_up = trusted.version == 1 && request.instead_of == Some(trusted.digest);
            if !is_given_up {
                return Err(CeremonyError::OutOfOrder { what: "root", next, given: 1 });
            }
        }
        let is_old_holder = newest.as_ref().is_some_and(|root| holds(root, &key));
        if !is_old_holder && !holds(root, &key) {
            return Err(CeremonyError::NotAHolder { kid: key.public_key().kid() });
        }
        let mark = Mark { version: root.version, digest: draft.digest() };
        memory.signed_root =
            Some(next_mark("root", memory.signed_root, mark, request.instead_of, &mut memory.given_up)?);
        if is_first {
            memory.trusted_root = Some(mark);
        }
        let document = Document::Root(draft.clone());
        document.standings(newest.as_ref()).map_err(not_next("root"))?;
        Ok(Self {
            changes: changes::of_roots(newest.as_deref(), root),
            development: root.development,
            document,
            newest_root: newest,
            key,
            memory,
            file,
        })
    }

    fn of_manifest(
        request: &Request<'_>,
        draft: &SignedManifest,
        key: RootKey,
        mut memory: Memory,
        file: MemoryFile,
    ) -> Result<Self, CeremonyError> {
        let manifest: &Manifest = draft.unverified();
        let published = request.published.ok_or(CeremonyError::PublishedNeeded)?;
        let roots = roots(request, &memory)?;
        let newest = remember_newest(&roots, &mut memory)?;
        if manifest.root_version != newest.version {
            return Err(CeremonyError::OldRoot { newest: newest.version, named: manifest.root_version });
        }
        if !holds(&newest, &key) {
            return Err(CeremonyError::NotAHolder { kid: key.public_key().kid() });
        }

        let head = published.head(&roots, memory.published_key_set)?;
        let next = head.as_ref().map_or(1, |head| head.version + 1);
        if manifest.version != next {
            return Err(CeremonyError::OutOfOrder { what: "manifest", next, given: manifest.version });
        }
        if let Some(head) = &head {
            manifest.follows(head).map_err(not_next("manifest"))?;
            memory.published_key_set = Some(Mark { version: head.version, digest: head.digest() });
        }
        let mark = Mark { version: manifest.version, digest: draft.digest() };
        let signed = memory.signed_key_set;
        memory.signed_key_set =
            Some(next_mark("manifest", signed, mark, request.instead_of, &mut memory.given_up)?);
        let document = Document::Manifest(draft.clone());
        // A forged signature of another holder shows here, before this one joins it.
        document.standing(&newest).map_err(not_next("manifest"))?;
        Ok(Self {
            changes: changes::of_manifests(head.as_deref(), manifest),
            development: newest.development,
            document,
            newest_root: Some(newest),
            key,
            memory,
            file,
        })
    }

    /// What the signature would help to change.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Whether production refuses what is signed here.
    #[must_use]
    pub fn is_for_development(&self) -> bool {
        self.development
    }

    /// The key that would sign.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.key.public_key().kid()
    }

    /// Remembers, and then signs. Signing the same document again gives the same signature.
    ///
    /// # Errors
    /// The memory cannot be written; nothing is signed then.
    pub fn sign(self) -> Result<Signature, CeremonyError> {
        self.file.write(&self.memory)?;
        let kid = self.kid();
        let document = match self.document {
            document if document.signers().contains(&kid) => document,
            Document::Manifest(manifest) => {
                Document::Manifest(self.key.sign(manifest).map_err(CeremonyError::Signing)?)
            }
            Document::Root(root) => Document::Root(self.key.sign(root).map_err(CeremonyError::Signing)?),
        };
        let standings = document.standings(self.newest_root.as_ref()).map_err(CeremonyError::Signing)?;
        Ok(Signature { document, kid, standings })
    }
}

/// The chain of roots from the one that is trusted on.
fn roots(request: &Request<'_>, memory: &Memory) -> Result<Vec<Verified<Root>>, CeremonyError> {
    let published = request.published.ok_or(CeremonyError::PublishedNeeded)?;
    // A root that is named counts before the one that is remembered: after a loss no chain leads from one to the other.
    let trusted = request.trust_root.or(memory.trusted_root.map(|root| root.digest));
    let roots = published.roots_from(trusted.ok_or(CeremonyError::NoTrust)?)?;
    let newest = roots.last().map_or(0, |root| root.version);
    match memory.trusted_root {
        Some(seen) if newest < seen.version => Err(published.lacks("root", seen.version)),
        _ => Ok(roots),
    }
}

fn follow_roots(request: &Request<'_>, memory: &mut Memory) -> Result<Verified<Root>, CeremonyError> {
    remember_newest(&roots(request, memory)?, memory)
}

fn remember_newest(roots: &[Verified<Root>], memory: &mut Memory) -> Result<Verified<Root>, CeremonyError> {
    let newest = roots.last().ok_or(CeremonyError::NoTrust)?;
    memory.trusted_root = Some(Mark { version: newest.version, digest: newest.digest() });
    Ok(newest.clone())
}

fn holds(root: &Root, key: &RootKey) -> bool {
    root.keys.iter().map(Jwk::kid).any(|kid| kid == key.public_key().kid())
}

/// What is signed now in place of what was signed last, unless it goes back or forks.
fn next_mark(
    what: &'static str,
    signed: Option<Mark>,
    mark: Mark,
    instead_of: Option<Digest>,
    given_up: &mut Vec<Digest>,
) -> Result<Mark, CeremonyError> {
    match signed {
        Some(signed) if signed.version > mark.version => {
            Err(CeremonyError::OutOfOrder { what, next: signed.version + 1, given: mark.version })
        }
        Some(signed) if signed.version == mark.version && signed.digest != mark.digest => {
            if instead_of != Some(signed.digest) {
                return Err(CeremonyError::Fork { what, version: mark.version, signed: signed.digest });
            }
            given_up.push(signed.digest);
            Ok(mark)
        }
        _ => Ok(mark),
    }
}

fn not_next<E: Into<RefusedDocument>>(what: &'static str) -> impl FnOnce(E) -> CeremonyError {
    move |source| CeremonyError::NotNext { what, source: Box::new(source.into()) }
}
