//! What strangers send, without a fuzzer: the seeds of `fuzz/`, and what chance makes of them.
//!
//! The fuzz targets themselves need a nightly toolchain and time; see `fuzz/README.md`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test a panic is a failure")]

#[path = "../../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::path::Path;

/// How many inputs chance makes for each target.
const INPUTS: usize = 100_000;

/// The same in every run, so that a failure comes back.
const SEED: u64 = 5;

#[test]
fn an_event_can_be_anything() {
    play("event", targets::event);
}

#[test]
fn places_can_be_anything() {
    play("places", targets::places);
}

#[test]
fn a_name_can_be_anything() {
    play("name", targets::name);
}

#[test]
fn headers_can_be_anything() {
    play("headers", targets::headers);
}

/// Plays the seeds of a target, and what chance makes of them.
fn play(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(name);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    seeds.iter().for_each(|seed| target(seed));
    let mut chance = Chance(SEED);
    for _ in 0..INPUTS {
        target(&chance.mutant(&seeds));
    }
}

/// A source of numbers: [SplitMix64](https://prng.di.unimi.it/splitmix64.c).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 1).unwrap() % end.max(1)
    }

    /// A seed with some changes: pieces of others, other characters, fewer or more of them.
    fn mutant(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let (start, end) = (self.below(bytes.len() + 1), self.below(bytes.len() + 1));
            let range = start.min(end)..start.max(end);
            let new = match self.below(5) {
                0 => Vec::new(),
                1 => bytes[range.clone()].repeat(2),
                2 => {
                    let other = self.below(seeds.len());
                    self.piece(&seeds[other])
                }
                3 => vec![self.below(256) as u8],
                _ => self.character(),
            };
            // Mostly something small is replaced, so that the rest is still what it was.
            let range = if self.below(4) == 0 { range } else { start..bytes.len().min(start + 1) };
            bytes.splice(range, new);
        }
        bytes
    }

    fn piece(&mut self, of: &[u8]) -> Vec<u8> {
        let (start, end) = (self.below(of.len() + 1), self.below(of.len() + 1));
        of[start.min(end)..start.max(end)].to_vec()
    }

    /// Any character of Unicode; those that mean something in JSON more often.
    fn character(&mut self) -> Vec<u8> {
        const SIGNS: &[u8] = b"{}[]\",:\\/%0-9.eEnull";
        match self.below(3) {
            0 => vec![SIGNS[self.below(SIGNS.len())]],
            1 => self.any_character(0x3000),
            _ => self.any_character(0x11_0000),
        }
    }

    fn any_character(&mut self, end: usize) -> Vec<u8> {
        let code = u32::try_from(self.below(end)).unwrap();
        char::from_u32(code).map(|it| it.to_string().into_bytes()).unwrap_or_default()
    }
}
