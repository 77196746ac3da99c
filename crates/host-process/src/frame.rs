//! Lengths of frames, as they are written and as they are read.

use std::io;

/// Length of a frame, as it is written before it.
pub(crate) fn encode(bytes: &[u8]) -> io::Result<[u8; 4]> {
    let length = u32::try_from(bytes.len());
    let length = length.map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    Ok(length.to_le_bytes())
}

/// Length of a frame, as it was read; an error where it is longer than the reader takes.
pub(crate) fn decode(length: [u8; 4], most: usize) -> io::Result<usize> {
    let length = usize::try_from(u32::from_le_bytes(length));
    let length = length.ok().filter(|length| *length <= most);
    length.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_read_as_it_was_written_and_bounded_by_the_reader() {
        let written = encode(&[0; 300]).expect("short enough");
        assert_eq!(written, [44, 1, 0, 0]);
        assert_eq!(decode(written, 300).expect("not too long"), 300);
        let error = decode(written, 299).expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
