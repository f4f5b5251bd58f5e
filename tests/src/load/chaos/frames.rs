//! Frames that are almost right.

use super::json::damage;
use crate::chance::Chance;
use crate::raw::{BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, TEXT};

/// Lengths at which something changes.
const LENGTHS: [u64; 10] = [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 1 << 31, u64::MAX];

/// Close codes, those that must not be sent among them.
const CODES: [u16; 12] = [0, 999, 1000, 1001, 1004, 1005, 1006, 1015, 2999, 3000, 4500, 65_535];

/// The bytes of a message: in one frame, in several, or with something in between.
pub fn carrying(payload: &[u8], chance: &mut Chance) -> Vec<u8> {
    match chance.below(6) {
        0 => fragments(payload, chance),
        1 => Frame::binary(payload).encode(),
        _ => Frame::new(TEXT, payload).encode(),
    }
}

/// A message in several frames, some of them empty, with pings in between.
fn fragments(payload: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut opcode = TEXT;
    for piece in payload.chunks(1 + chance.below(20)) {
        bytes.extend(Frame::new(opcode, piece).unfinished().encode());
        opcode = CONTINUATION;
        if chance.below(5) == 0 {
            bytes.extend(Frame::ping("between").encode());
        }
    }
    bytes.extend(Frame::new(opcode, []).encode());
    bytes
}

/// A frame that breaks a rule, or comes close to it.
pub fn odd(chance: &mut Chance) -> Vec<u8> {
    match chance.below(8) {
        0 => any(chance),
        1 => lie(chance),
        2 => close(chance),
        3 => Frame::new(PING, vec![b'p'; chance.below(200)]).encode(),
        4 => Frame::new(PONG, vec![b'p'; chance.below(126)]).encode(),
        5 => {
            let length = chance.below(70_000);
            Frame::binary(noise(chance, length)).encode()
        }
        6 => {
            let length = chance.below(40);
            noise(chance, length)
        }
        _ => {
            let mut bytes = Frame::text(r#"{"type":"rooms"}"#).encode();
            damage(&mut bytes, chance);
            bytes
        }
    }
}

/// Any opcode, any bits.
fn any(chance: &mut Chance) -> Vec<u8> {
    let opcode = u8::try_from(chance.below(16)).unwrap_or(BINARY);
    let length = chance.below(300);
    let mut frame = Frame::new(opcode, noise(chance, length));
    frame.fin = chance.below(3) > 0;
    frame.masked = chance.below(5) > 0;
    if chance.below(4) == 0 {
        frame.rsv = u8::try_from(chance.below(8)).unwrap_or(0);
    }
    frame.encode()
}

/// A head that promises another length than what comes.
fn lie(chance: &mut Chance) -> Vec<u8> {
    let length = chance.pick(&LENGTHS).copied().unwrap_or_default();
    let mut bytes = Frame::text("").header(length);
    let come = chance.below(200);
    bytes.extend(noise(chance, come));
    bytes
}

/// A close frame, with a code, half of one, or none.
fn close(chance: &mut Chance) -> Vec<u8> {
    let code = chance.pick(&CODES).copied().unwrap_or_default();
    match chance.below(4) {
        0 => Frame::new(CLOSE, []).encode(),
        1 => Frame::new(CLOSE, [3]).encode(),
        2 => Frame::new(CLOSE, [&code.to_be_bytes()[..], &[0xff, 0xfe]].concat()).encode(),
        _ => Frame::close(code).encode(),
    }
}

/// Any bytes.
pub fn noise(chance: &mut Chance, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(chance.number().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
