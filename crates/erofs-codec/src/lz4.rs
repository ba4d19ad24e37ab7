//! LZ4 blocks: a token, literals, a distance, and so on; the last sequence has literals only.

use crate::Want;
use crate::copy::{SLACK, exact_match, wild_literals, wild_match};
use crate::error::{DecodeError, Result};

/// Matches are at least this long.
const MIN_MATCH: usize = 4;
/// A length of 15 in the token goes on in the bytes behind.
const LONG: usize = 15;
/// While this much of the input is left behind a token or behind long literals, there are 14
/// literals with what their copy reads behind, and a distance.
const INPUT_ROOM: usize = 32;
/// While this much of the output is left, 14 literals and a match of 18 fit with what they may
/// write behind.
const OUTPUT_ROOM: usize = 14 + 18 + SLACK;

/// Decodes `input` into `output`.
#[inline(never)]
pub(crate) fn decode(input: &[u8], output: &mut [u8], want: Want) -> Result<()> {
    let (mut ip, mut op) = (0, 0);
    loop {
        (ip, op) = decode_fast(input, output, ip, op);
        let truncated = DecodeError::Truncated { produced: op };
        let token = usize::from(*input.get(ip).ok_or(truncated)?);
        ip += 1;
        let literals = long_length(token >> 4, input, &mut ip).ok_or(truncated)?;
        let room = output.len() - op;
        if literals > room {
            return match want {
                Want::Whole => Err(DecodeError::Long { wanted: output.len() }),
                Want::Prefix => {
                    output[op..].copy_from_slice(input[ip..].get(..room).ok_or(truncated)?);
                    Ok(())
                }
            };
        }
        output[op..op + literals].copy_from_slice(input[ip..].get(..literals).ok_or(truncated)?);
        ip += literals;
        op += literals;
        if want == Want::Prefix && op == output.len() {
            return Ok(());
        }
        if ip == input.len() {
            let (produced, wanted) = (op, output.len());
            return if op == wanted { Ok(()) } else { Err(DecodeError::Short { produced, wanted }) };
        }
        let truncated = DecodeError::Truncated { produced: op };
        let Some(&[low, high]) = input[ip..].first_chunk::<2>() else { return Err(truncated) };
        ip += 2;
        let distance = usize::from(u16::from_le_bytes([low, high]));
        let matched = MIN_MATCH + long_length(token & LONG, input, &mut ip).ok_or(truncated)?;
        let room = output.len() - op;
        let found = if matched + SLACK <= room {
            wild_match(output, op, distance, matched)
        } else {
            exact_match(output, op, distance, matched.min(room))
        };
        if !found {
            return Err(DecodeError::Distance { produced: op, distance });
        }
        if matched > room {
            return match want {
                Want::Whole => Err(DecodeError::Long { wanted: output.len() }),
                Want::Prefix => Ok(()),
            };
        }
        op += matched;
    }
}

/// Decodes sequences from `ip` and `op` on as long as there is plenty of input and of room; gives
/// the places of the first one that it has not decoded, be it for want of room or as it is broken.
///
/// Seven sequences of eight have short lengths and a match from 8 bytes or more away. In the loop
/// over these, two comparisons at its head and one of the match's beginning bound every access, and
/// the compiler sees it: there are no others.
#[inline(never)]
fn decode_fast(input: &[u8], output: &mut [u8], mut ip: usize, mut op: usize) -> (usize, usize) {
    let (Some(last_ip), Some(last_op)) =
        (input.len().checked_sub(INPUT_ROOM), output.len().checked_sub(OUTPUT_ROOM))
    else {
        return (ip, op);
    };
    loop {
        while ip <= last_ip && op <= last_op {
            let Some(window) = input[ip..].first_chunk::<INPUT_ROOM>() else { break };
            let Some(room) = output[op..].first_chunk_mut::<OUTPUT_ROOM>() else { break };
            let token = usize::from(window[0]);
            let (literals, matched) = (token >> 4, token & LONG);
            room[..16].copy_from_slice(&window[1..17]);
            // Two jumps: put together, the condition costs more than both.
            if literals == LONG {
                break;
            }
            if matched == LONG {
                break;
            }
            let distance = usize::from(u16::from_le_bytes([window[1 + literals], window[2 + literals]]));
            // Before the beginning it wraps and is above `last_op`; else it is below `op`.
            let start = op.wrapping_add(literals).wrapping_sub(distance);
            if distance < 8 || start > last_op {
                break;
            }
            // The longest match here has 18 bytes, of which each piece may be the source of the next.
            // From less than 16 bytes away come an eighth of the matches in executables.
            move_within::<8>(output, start, op, literals);
            move_within::<8>(output, start + 8, op, literals + 8);
            move_within::<2>(output, start + 16, op, literals + 16);
            ip = ip.wrapping_add(3).wrapping_add(literals);
            op = op.wrapping_add(literals).wrapping_add(matched).wrapping_add(MIN_MATCH);
        }
        match any_sequence(input, output, ip, op) {
            Some(places) => (ip, op) = places,
            None => return (ip, op),
        }
    }
}

/// Copies `N` bytes from `start` to `op + offset`, if all are within `OUTPUT_ROOM` of `op`.
#[inline(always)]
fn move_within<const N: usize>(output: &mut [u8], start: usize, op: usize, offset: usize) {
    let Some(&bytes) = output[start..].first_chunk::<N>() else { return };
    let Some(room) = output[op..].first_chunk_mut::<OUTPUT_ROOM>() else { return };
    room[offset..][..N].copy_from_slice(&bytes);
}

/// Decodes a sequence of any kind; gives the places of the next. `None` if there may be too little
/// input or room for it, or if it is broken.
#[inline(always)]
fn any_sequence(input: &[u8], output: &mut [u8], ip: usize, op: usize) -> Option<(usize, usize)> {
    let token = usize::from(*input.get(ip)?);
    let mut next = ip.wrapping_add(1);
    let literals = long_length(token >> 4, input, &mut next)?;
    let source = input.get(next..)?;
    let room = output.get(op..)?;
    if source.len() < literals.wrapping_add(INPUT_ROOM) || room.len() < literals.wrapping_add(OUTPUT_ROOM) {
        return None;
    }
    wild_literals(output, op, source, literals);
    next = next.wrapping_add(literals);
    let at = op.wrapping_add(literals);
    let distance = usize::from(u16::from_le_bytes(*input.get(next..)?.first_chunk()?));
    next = next.wrapping_add(2);
    let matched = long_length(token & LONG, input, &mut next)?.wrapping_add(MIN_MATCH);
    if output.get(at..)?.len() < matched.wrapping_add(SLACK) {
        return None;
    }
    wild_match(output, at, distance, matched).then_some((next, at.wrapping_add(matched)))
}

/// A length whose beginning is in the token; `None` if the input ends within it.
#[inline(always)]
fn long_length(nibble: usize, input: &[u8], ip: &mut usize) -> Option<usize> {
    let mut length = nibble;
    if nibble == LONG {
        loop {
            let byte = *input.get(*ip)?;
            *ip += 1;
            // At most 255 times the input's length: no overflow.
            length += usize::from(byte);
            if byte != 255 {
                break;
            }
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(input: &[u8], len: usize) -> Result<Vec<u8>> {
        let mut output = vec![0; len];
        decode(input, &mut output, Want::Whole).map(|()| output)
    }

    /// 3 literals, then a match of 9 at distance 3, then 5 literals.
    const ABC: &[u8] = b"\x35abc\x03\x00\x50vwxyz";

    #[test]
    fn literals_and_matches_are_put_together() {
        assert_eq!(whole(ABC, 17).unwrap(), b"abcabcabcabcvwxyz");
        assert_eq!(whole(b"\x00", 0).unwrap(), b"");
    }

    #[test]
    fn a_prefix_of_every_length_is_exact() {
        for len in 1..=17 {
            let mut output = vec![0; len];
            decode(ABC, &mut output, Want::Prefix).unwrap();
            assert_eq!(output, b"abcabcabcabcvwxyz"[..len]);
        }
    }

    #[test]
    fn a_stream_of_another_length_is_refused() {
        assert_eq!(whole(ABC, 16), Err(DecodeError::Long { wanted: 16 }));
        assert_eq!(whole(ABC, 11), Err(DecodeError::Long { wanted: 11 }));
        assert_eq!(whole(ABC, 18), Err(DecodeError::Short { produced: 17, wanted: 18 }));
        assert_eq!(whole(&ABC[..9], 17), Err(DecodeError::Truncated { produced: 12 }));
        assert_eq!(whole(b"", 1), Err(DecodeError::Truncated { produced: 0 }));
    }

    #[test]
    fn a_match_before_the_beginning_is_refused() {
        let far = b"\x35abc\x04\x00\x50vwxyz";
        assert_eq!(whole(far, 17), Err(DecodeError::Distance { produced: 3, distance: 4 }));
        let none = b"\x35abc\x00\x00\x50vwxyz";
        assert_eq!(whole(none, 17), Err(DecodeError::Distance { produced: 3, distance: 0 }));
    }

    #[test]
    fn a_length_that_never_ends_is_refused() {
        assert_eq!(whole(&vec![255; 100_000], 17), Err(DecodeError::Truncated { produced: 0 }));
    }

    /// Every mix of short and long lengths with near and far matches: what no one encoder writes.
    #[test]
    fn all_kinds_of_sequences_follow_each_other() {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        let put_length = |stream: &mut Vec<u8>, length: usize| {
            if let Some(mut more) = length.checked_sub(LONG) {
                while more >= 255 {
                    stream.push(255);
                    more -= 255;
                }
                stream.push(more as u8);
            }
        };
        for step in 0..6000_usize {
            let literals = [0, 1, 14, 15, 16, 17, 31, 33, 257, 300][step % 10] + usize::from(step == 0) * 70;
            let matched = [4, 5, 18, 19, 20, 35, 36, 37, 290][step / 7 % 9];
            let distance = 1 + step / 3 % 70;
            stream.push((literals.min(LONG) << 4 | (matched - MIN_MATCH).min(LONG)) as u8);
            put_length(&mut stream, literals);
            for index in 0..literals {
                let byte = (step * 31 + index * 7) as u8;
                stream.push(byte);
                expected.push(byte);
            }
            stream.extend((distance as u16).to_le_bytes());
            put_length(&mut stream, matched - MIN_MATCH);
            for _ in 0..matched {
                expected.push(expected[expected.len() - distance]);
            }
        }
        stream.push(0);
        assert!(whole(&stream, expected.len()).unwrap() == expected);
        for len in (1..expected.len()).step_by(997) {
            let mut output = vec![0xa5; len];
            decode(&stream, &mut output, Want::Prefix).unwrap();
            assert!(output == expected[..len], "{len}");
            assert_eq!(whole(&stream, len), Err(DecodeError::Long { wanted: len }));
        }
    }
}
