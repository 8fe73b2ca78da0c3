//! Chance from fixed seeds, so that whatever it finds can be found again.

#![allow(dead_code, reason = "each test that includes this uses some of it")]

/// xorshift64*, by Marsaglia and Vigna.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 … `end` - 1; 0 for an `end` of 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() >> 16)
            .unwrap()
            .checked_rem(end)
            .unwrap_or(0)
    }

    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}

/// `usual` rounds, or as many times more as `KR_ROUNDS` says.
pub fn rounds(usual: u64) -> u64 {
    let times =
        std::env::var("KR_ROUNDS").map_or(1, |times| times.parse().expect("KR_ROUNDS is a number"));
    usual * times
}

/// Numbers that parsers stumble over.
const NUMBERS: [&str; 8] = [
    "0",
    "-1",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "1e999",
    "007",
    "0x7f",
];

/// Changes `bytes` in one of the ways in which files get damaged or are forged; `words` are what
/// its reader looks for.
pub fn mutate(chance: &mut Chance, bytes: &mut Vec<u8>, words: &[&str]) {
    let start = chance.below(bytes.len() + 1);
    let length = chance.below((bytes.len() - start).min(64) + 1);
    let range = start..start + length;
    match chance.below(9) {
        0 => bytes.truncate(start),
        1 => drop(bytes.drain(range)),
        2 => {
            let piece = bytes[range].to_vec();
            let times = if chance.one_in(20) {
                2000
            } else {
                1 + chance.below(3)
            };
            bytes.splice(start..start, piece.repeat(times));
        }
        3 => bytes[range].fill(0),
        4 => drop(bytes.splice(start..start, chance.pick(&NUMBERS).bytes())),
        5 => {
            let noise: Vec<u8> = (0..length)
                .map(|_| chance.number().to_le_bytes()[0])
                .collect();
            bytes.splice(range, noise);
        }
        6 => {
            if let Some(byte) = bytes.get_mut(start) {
                *byte ^= 1 << chance.below(8);
            }
        }
        _ => drop(bytes.splice(start..start, chance.pick(words).bytes())),
    }
}
