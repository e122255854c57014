//! The contract: which unit primitives a backend asks for in tokens, declared where it is built.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The content of a backend's `contract.json`.
///
/// The issuer compares it with its catalog: what is sold must be enforced somewhere, and what is enforced must be
/// for sale.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// The backend's name in the catalog.
    pub backend: String,
    /// The unit primitives that it enforces, sorted, each once.
    pub unit_primitives: Vec<String>,
}

/// Why a contract was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContractError {
    /// A word in it is no name.
    #[error(
        "{}: `{name}` is no name: names have small letters, digits and underscores, and begin with a letter",
        path.display()
    )]
    Name {
        /// The file.
        path: PathBuf,
        /// The word.
        name: String,
    },
    /// Not the JSON that a contract is.
    #[error("{}: not a contract (`backend`, `unit_primitives[]`): {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        why: String,
    },
    /// A primitive is named twice, or out of order.
    #[error("{}: `unit_primitives` must be sorted, each once; `{name}` is out of place", path.display())]
    Order {
        /// The file.
        path: PathBuf,
        /// The first one out of place.
        name: String,
    },
}

impl Contract {
    /// Reads the content of a contract; `path` is for the sentences of refusals.
    ///
    /// # Errors
    /// See [`ContractError`].
    pub fn parse(json: &[u8], path: &Path) -> Result<Self, ContractError> {
        let path = || path.to_owned();
        let contract: Self = serde_json::from_slice(json)
            .map_err(|error| ContractError::Malformed { path: path(), why: error.to_string() })?;
        let names = contract.unit_primitives.iter().chain([&contract.backend]);
        if let Some(name) = names.into_iter().find(|name| !is_name(name)) {
            return Err(ContractError::Name { path: path(), name: name.clone() });
        }
        match contract.unit_primitives.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(ContractError::Order { path: path(), name: pair[1].clone() }),
            None => Ok(contract),
        }
    }
}

fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|first| first.is_ascii_lowercase())
        && characters.all(|next| next.is_ascii_lowercase() || next.is_ascii_digit() || next == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Contract, String> {
        Contract::parse(text.as_bytes(), Path::new("contract.json")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_contract_names_each_primitive_once_in_order() {
        let contract =
            parse(r#"{"backend":"ai_gateway","unit_primitives":["ask_epic","duo_chat"]}"#).unwrap();
        assert_eq!(contract.unit_primitives, ["ask_epic", "duo_chat"]);
        for (text, part) in [
            (r#"{"backend":"ai_gateway","unit_primitives":["b","a"]}"#, "`a` is out of place"),
            (r#"{"backend":"ai_gateway","unit_primitives":["a","a"]}"#, "`a` is out of place"),
            (r#"{"backend":"ai_gateway","unit_primitives":["Duo chat"]}"#, "`Duo chat` is no name"),
            (r#"{"backend":"","unit_primitives":[]}"#, "`` is no name"),
            (r#"{"backend":"ai_gateway"}"#, "unit_primitives"),
            (r#"{"backend":"a","unit_primitives":[],"all":true}"#, "all"),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.contains(part), "{told}");
        }
    }
}
