//! Numbers in as few bytes as they need: seven bits each, the lowest first (LEB128), in one form only.

/// Bytes are not a number in its only form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VarintError {
    /// They end too early.
    Truncated,
    /// The number could be shorter, or does not fit 64 bits.
    Overlong,
}

/// Appends a number.
pub fn write_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads a number and says what follows it.
///
/// # Errors
/// [`VarintError`] unless the bytes begin with what [`write_varint`] makes.
pub fn read_varint(bytes: &[u8]) -> Result<(u64, &[u8]), VarintError> {
    let mut number = 0;
    let mut rest = bytes;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(VarintError::Truncated)?;
        rest = after;
        let low = u64::from(byte & 0x7f);
        let lost = low << shift >> shift != low;
        let padded = *byte == 0 && shift > 0;
        if lost || padded {
            return Err(VarintError::Overlong);
        }
        number |= low << shift;
        if byte & 0x80 == 0 {
            return Ok((number, rest));
        }
    }
    Err(VarintError::Overlong)
}
