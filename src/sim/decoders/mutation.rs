//! Damage to bytes, as disks and attackers do it.

use super::super::rng::Rng;

/// Lengths and counts at their edges, little endian and as postcard writes them.
const EXTREMES: [&[u8]; 14] = [
    &[0],
    &[1],
    &[0x7f],
    &[0xff],
    &[0, 0, 0, 0],
    &[1, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0x7f],
    &[0, 0, 0, 0, 0, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xff, 0x7f],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0x03],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
];

/// Any bytes; often small ones, which are variants and lengths.
pub(super) fn arbitrary(rng: &mut Rng) -> Vec<u8> {
    let length = rng.index(300);
    let largest = *rng.pick(&[4, 12, 256]);
    (0..length).map(|_| u8::try_from(rng.below(largest)).unwrap()).collect()
}

/// Damages bytes in one to three ways.
pub(super) fn damage(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=rng.below(3) {
        damage_once(rng, bytes, other);
    }
}

fn damage_once(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = rng.index(bytes.len() + 1);
    let to = at + rng.index(bytes.len() - at + 1);
    match rng.below(9) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..to)),
        2 => {
            let from = rng.index(other.len() + 1);
            bytes.splice(at.., other[from..].iter().copied());
        }
        3 => {
            // Over and over: this nests what nests.
            let piece = bytes[at..to.min(at + 6)].repeat(rng.index(1_000));
            bytes.splice(at..at, piece);
        }
        4 | 5 => {
            let extreme = rng.pick(&EXTREMES);
            let to = if rng.chance(500) { bytes.len().min(at + extreme.len()) } else { at };
            bytes.splice(at..to, extreme.iter().copied());
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
    }
}
