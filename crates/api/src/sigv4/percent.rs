//! Percent-encoding as AWS does it: everything but `A-Z a-z 0-9 - . _ ~` becomes `%XX`, upper case.

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn encode_except(bytes: &[u8], keep: impl Fn(u8) -> bool) -> String {
    let mut encoded = String::with_capacity(bytes.len());
    for &byte in bytes {
        if keep(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    encoded
}

/// Encodes a label or a query value, slashes included.
pub fn encode(text: &str) -> String {
    encode_except(text.as_bytes(), unreserved)
}

/// Encodes a path, keeping its slashes.
pub fn encode_path(text: &str) -> String {
    encode_except(text.as_bytes(), |byte| unreserved(byte) || byte == b'/')
}

/// Decodes once. `None` when a `%` is not followed by two hex digits or the result is no UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let digit = |index: usize| char::from(*bytes.get(index)?).to_digit(16);
            decoded.push((digit(at + 1)? * 16 + digit(at + 2)?) as u8);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(decoded).ok()
}

/// The decoded pairs of a raw query, in order; `+` is a space. `None` when one cannot be decoded.
pub fn query_pairs(raw_query: &str) -> Option<Vec<(String, String)>> {
    let parts = raw_query.split('&').filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Some((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?))
    };
    parts.map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_and_decodes() {
        assert_eq!(encode("a b/c:d=é~"), "a%20b%2Fc%3Ad%3D%C3%A9~");
        assert_eq!(encode_path("/a%3Ab/c"), "/a%253Ab/c");
        assert_eq!(decode("a%20b%2fc%3A%C3%A9").unwrap(), "a b/c:é");
        for wrong in ["%", "%2", "%zz", "%+1", "%ff", "x%2"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn splits_queries() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let pairs = query_pairs("a=1&b=x%3D%3D&&c&d=a+b&e=a%2Bb=").unwrap();
        let expected = [pair("a", "1"), pair("b", "x=="), pair("c", ""), pair("d", "a b"), pair("e", "a+b=")];
        assert_eq!(pairs, expected);
        assert_eq!(query_pairs("a=%"), None);
    }
}
