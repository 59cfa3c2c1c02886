//! Frames: a little-endian `u32` length, then a postcard body of that length.

use serde::{Serialize, de::DeserializeOwned};

/// Bytes of the length prefix.
pub const LENGTH_BYTES: usize = 4;

/// The largest body either side accepts (1 MiB): bytes of a peer are hostile input and must not size an allocation.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// A frame that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The body is longer than [`MAX_FRAME_BYTES`].
    #[error("frame of {bytes} bytes exceeds the bound of {MAX_FRAME_BYTES}")]
    TooLong {
        /// The length that was asked for.
        bytes: usize,
    },
    /// The body is not the expected message.
    #[error("malformed frame: {0}")]
    Malformed(#[from] postcard::Error),
}

/// One message as a whole frame, length prefix included.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = postcard::to_extend(message, vec![0; LENGTH_BYTES])?;
    let bytes = frame.len() - LENGTH_BYTES;
    if bytes > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong { bytes });
    }
    frame[..LENGTH_BYTES].copy_from_slice(&(bytes as u32).to_le_bytes());
    Ok(frame)
}

/// The length of the body that follows a prefix, checked against [`MAX_FRAME_BYTES`].
pub fn decode_length(prefix: [u8; LENGTH_BYTES]) -> Result<usize, FrameError> {
    let bytes = u32::from_le_bytes(prefix) as usize;
    if bytes > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong { bytes });
    }
    Ok(bytes)
}

/// The message of a body whose length came from [`decode_length`].
pub fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    Ok(postcard::from_bytes(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hello, Request};

    #[test]
    fn a_message_survives_the_round_trip() {
        let message = Request::Hello(Hello { generation: 7 });
        let frame = encode(&message).expect("encodes");
        let prefix: [u8; LENGTH_BYTES] = frame[..LENGTH_BYTES].try_into().expect("four bytes");
        let length = decode_length(prefix).expect("in bounds");
        assert_eq!(length, frame.len() - LENGTH_BYTES);
        assert_eq!(decode_body::<Request>(&frame[LENGTH_BYTES..]).expect("decodes"), message);
    }

    #[test]
    fn a_length_past_the_bound_is_refused_before_anything_is_read() {
        let prefix = (MAX_FRAME_BYTES as u32 + 1).to_le_bytes();
        assert!(matches!(decode_length(prefix), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn rubbish_is_an_error_not_a_panic() {
        assert!(decode_body::<Request>(&[0xff; 40]).is_err());
        assert!(decode_body::<Request>(&[]).is_err());
    }
}
