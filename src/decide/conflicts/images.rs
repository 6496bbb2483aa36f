//! Images of rows in records: small ones whole, and of a large one its digest. A pass reads many records, and decides by whether two images are the
//! same; what is in them is for people.

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// Bytes of the largest image, as JSON, that a record itself has.
const LARGEST: usize = 1 << 10;

/// Of a large image its SHA-256, in hexadecimal digits, and its text.
pub fn large(image: &Value) -> Option<(String, String)> {
    let text = image.to_string();
    (text.len() > LARGEST).then(|| {
        let digits = digest(&SHA256, text.as_bytes());
        let digits = digits.as_ref().iter().map(|byte| format!("{byte:02x}"));
        (digits.collect(), text)
    })
}

/// The image, or the digest of a large one. The same image always has the same digest.
pub fn brief(image: &Value) -> Value {
    match large(image) {
        Some((sha256, text)) => json!({ "sha256": sha256, "bytes": text.len() }),
        None => image.clone(),
    }
}

/// A row with the digests of its large values: the same for the same row, and with the same columns.
pub fn brief_columns(image: Value) -> Value {
    match image {
        Value::Object(columns) => columns.into_iter().map(|(name, value)| (name, brief(&value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{brief, brief_columns, large};

    #[test]
    fn a_row_keeps_its_columns_and_its_differences() {
        let row = |value: &str| json!({ "id": 1, "b": value.repeat(1 << 20), "n": null });
        let brief = brief_columns(row("a"));
        assert_eq!(
            (&brief["id"], &brief["n"], &brief["b"]["bytes"]),
            (&json!(1), &json!(null), &json!((1 << 20) + 2))
        );
        assert!(brief.to_string().len() < 200, "{brief}");
        assert_eq!(brief, brief_columns(row("a")));
        assert_ne!(brief, brief_columns(row("c")));
    }

    #[test]
    fn a_large_image_is_its_digest() {
        let (small, long) = (json!({ "v": "s" }), json!({ "v": "l".repeat(2000) }));
        assert_eq!((brief(&small), large(&small)), (small.clone(), None));
        let (sha256, text) = large(&long).unwrap();
        assert_eq!(text, long.to_string());
        let digest = brief(&long);
        assert_eq!(digest, json!({ "sha256": sha256, "bytes": 2008 }));
        assert_ne!(digest, brief(&json!({ "v": "m".repeat(2000) })));
        // What is brief already stays as it is.
        assert_eq!((brief(&digest), large(&digest)), (digest.clone(), None));
    }
}
