//! Members of JSON objects, read so that a wrong type and a repetition are told apart from absence.
//!
//! serde's own errors are only text, and its `Option` takes `null` for nothing: too little for a refusal that
//! names what is wrong.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// What was found of one member.
#[derive(Default)]
pub(crate) enum Slot<T> {
    #[default]
    Empty,
    Filled(T),
    OfWrongType,
}

/// The member has another JSON type than it must have.
pub(crate) struct OfWrongType;

impl<T: FromJson> Slot<T> {
    /// Takes in the member whose name was just read. True if it was there before.
    pub(crate) fn fill<'de, M: MapAccess<'de>>(&mut self, members: &mut M) -> Result<bool, M::Error> {
        let duplicate = !matches!(self, Self::Empty);
        *self = match members.next_value::<Typed<T>>()?.0 {
            Some(value) => Self::Filled(value),
            None => Self::OfWrongType,
        };
        Ok(duplicate)
    }
}

impl<T> Slot<T> {
    pub(crate) fn into_value(self) -> Result<Option<T>, OfWrongType> {
        match self {
            Self::Empty => Ok(None),
            Self::Filled(value) => Ok(Some(value)),
            Self::OfWrongType => Err(OfWrongType),
        }
    }
}

/// What a member can be made from; every other JSON type is wrong for it.
pub(crate) trait FromJson: Sized {
    fn from_text(_: &str) -> Option<Self> {
        None
    }
    fn from_integer(_: i64) -> Option<Self> {
        None
    }
    fn from_texts(_: Vec<String>) -> Option<Self> {
        None
    }
}

impl FromJson for String {
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl FromJson for i64 {
    fn from_integer(integer: i64) -> Option<Self> {
        Some(integer)
    }
}

impl FromJson for Vec<String> {
    fn from_texts(texts: Vec<String>) -> Option<Self> {
        Some(texts)
    }
}

/// A JSON value of any type: `None` where it is not one that `T` can be made from.
struct Typed<T>(Option<T>);

impl<'de, T: FromJson> Deserialize<'de> for Typed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyVisitor<T>(PhantomData<T>);
        impl<'de, T: FromJson> Visitor<'de> for AnyVisitor<T> {
            type Value = Typed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Typed<T>, E> {
                Ok(Typed(None))
            }
            fn visit_i64<E>(self, integer: i64) -> Result<Typed<T>, E> {
                Ok(Typed(T::from_integer(integer)))
            }
            fn visit_u64<E>(self, integer: u64) -> Result<Typed<T>, E> {
                Ok(Typed(i64::try_from(integer).ok().and_then(T::from_integer)))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Typed<T>, E> {
                Ok(Typed(None))
            }
            fn visit_str<E>(self, text: &str) -> Result<Typed<T>, E> {
                Ok(Typed(T::from_text(text)))
            }
            fn visit_unit<E>(self) -> Result<Typed<T>, E> {
                Ok(Typed(None))
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Typed<T>, S::Error> {
                let mut texts = Some(Vec::new());
                while let Some(Typed(item)) = items.next_element::<Typed<String>>()? {
                    texts = texts.zip(item).map(|(mut texts, item)| {
                        texts.push(item);
                        texts
                    });
                }
                Ok(Typed(texts.and_then(T::from_texts)))
            }
            fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Typed<T>, M::Error> {
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Typed(None))
            }
        }
        deserializer.deserialize_any(AnyVisitor(PhantomData))
    }
}
