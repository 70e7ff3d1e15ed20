//! Whether a text is JSON, for what would panic where it is not.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Reads all of it, strings with their escapes too, and keeps nothing.
pub struct WellFormed;

impl<'de> Deserialize<'de> for WellFormed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for WellFormed {
    type Value = Self;

    fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        while fields.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_wherever_they_are() {
        let read = |text: &str| serde_json::from_str::<WellFormed>(text).is_ok();
        assert!(read(r#"{"a": [1, -2, 0.5, null, true, "\ud83d\ude00"], "b": {}}"#));
        for text in [r#"{"a": "\ud800"}"#, r#"{"\ud800": 1}"#, r#"["\x"]"#, "[1", "{\"a\" 1}", "[\"\n\"]", "[] []"] {
            assert!(!read(text), "{text}");
        }
    }
}
