//! Numbers that look like chance and are the same at every gateway and in every run.

/// The hash of what requests are told apart by. FNV-1a, mixed once more because its high bits are weak. Part of what
/// gateways agree on without talking: a change moves every client to another instance.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// The finaliser of splitmix64 (Steele, Lea and Flood, 2014): every bit of the input changes half of the output's.
pub(crate) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_input_has_the_same_hash_for_ever() {
        assert_eq!(hash(b""), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!([hash(b"alice"), hash(b"bob")].map(|hash| hash % 1000), [941, 156]);
    }

    #[test]
    fn neighbours_are_spread_evenly() {
        let mut counts = [0; 16];
        for n in 0..16_000 {
            counts[(hash(format!("user-{n}").as_bytes()) >> 60) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
