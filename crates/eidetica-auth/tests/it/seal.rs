use eidetica_auth::{KdfParams, PasswordSealed, SealError, Sealed, VaultKey, limits};
use rand::{SeedableRng, rngs::StdRng};

const CHEAP: KdfParams = KdfParams {
    memory_kib: 8,
    passes: 1,
    lanes: 1,
};

fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

#[test]
fn a_password_opens_what_it_sealed_and_nothing_else_does() {
    let sealed =
        PasswordSealed::seal_with(CHEAP, b"secret", "correct horse", "user/alice", &mut rng())
            .unwrap();
    let sealed = PasswordSealed::decode(&sealed.encode()).unwrap();
    assert_eq!(
        *sealed.open("correct horse", "user/alice").unwrap(),
        b"secret"
    );
    for (password, context) in [
        ("correct hors", "user/alice"),
        ("", "user/alice"),
        ("correct horse", "user/bob"),
    ] {
        assert_eq!(sealed.open(password, context), Err(SealError::Refused));
    }
}

#[test]
fn every_flipped_bit_of_an_envelope_is_noticed() {
    let sealed =
        PasswordSealed::seal_with(CHEAP, b"secret", "password", "context", &mut rng()).unwrap();
    crate::for_every_flipped_bit(&sealed.encode(), |bytes, bit| {
        // A flip in the parameters may ask for much memory: those are not run here but compared.
        if let Ok(changed) = PasswordSealed::decode(bytes) {
            let same_cost = changed.params() == CHEAP;
            assert!(
                !same_cost || changed.open("password", "context").is_err(),
                "bit {bit}"
            );
        }
    });
    let vault = VaultKey::generate(&mut rng());
    let sealed = vault.seal(b"secret", "context", &mut rng()).unwrap();
    crate::for_every_flipped_bit(&sealed.encode(), |bytes, bit| {
        let opened = Sealed::decode(bytes).and_then(|changed| vault.open(&changed, "context"));
        assert!(opened.is_err(), "bit {bit}");
    });
}

#[test]
fn equal_secrets_are_sealed_differently() {
    let mut rng = rng();
    let vault = VaultKey::generate(&mut rng);
    let [a, b] = [0; 2].map(|_| vault.seal(b"secret", "context", &mut rng).unwrap());
    assert_ne!(a, b);
    assert!(!a.encode().windows(6).any(|window| window == b"secret"));
}

#[test]
fn the_current_cost_is_64_mib_and_three_passes_and_cheaper_ones_want_an_upgrade() {
    let current = PasswordSealed::seal(b"secret", "password", "context", &mut rng()).unwrap();
    assert_eq!(
        current.params(),
        KdfParams {
            memory_kib: 65536,
            passes: 3,
            lanes: 1
        }
    );
    assert!(!current.needs_upgrade());
    assert_eq!(*current.open("password", "context").unwrap(), b"secret");
    for params in [
        KdfParams {
            memory_kib: 65535,
            ..KdfParams::CURRENT
        },
        KdfParams {
            passes: 2,
            ..KdfParams::CURRENT
        },
    ] {
        let sealed =
            PasswordSealed::seal_with(params, b"secret", "password", "context", &mut rng())
                .unwrap();
        assert!(sealed.needs_upgrade());
    }
}

#[test]
fn costs_out_of_range_are_refused_before_memory_is_taken() {
    for params in [
        KdfParams {
            memory_kib: limits::KDF_MEMORY_KIB + 1,
            passes: 1,
            lanes: 1,
        },
        KdfParams {
            memory_kib: u32::MAX,
            passes: 1,
            lanes: 1,
        },
        KdfParams {
            passes: limits::KDF_PASSES + 1,
            ..CHEAP
        },
        KdfParams { passes: 0, ..CHEAP },
        KdfParams {
            lanes: limits::KDF_LANES + 1,
            memory_kib: 1024,
            passes: 1,
        },
        KdfParams {
            memory_kib: 7,
            ..CHEAP
        },
    ] {
        let sealed =
            PasswordSealed::seal_with(params, b"secret", "password", "context", &mut rng());
        assert_eq!(sealed, Err(SealError::Parameters), "{params:?}");
    }
    let good = PasswordSealed::seal_with(CHEAP, b"secret", "password", "context", &mut rng())
        .unwrap()
        .encode();
    let mut greedy = good.clone();
    greedy[1..5].copy_from_slice(&(limits::KDF_MEMORY_KIB + 1).to_le_bytes());
    assert_eq!(PasswordSealed::decode(&greedy), Err(SealError::Parameters));
    let mut newer = good;
    newer[0] = 2;
    assert_eq!(PasswordSealed::decode(&newer), Err(SealError::Version(2)));
}

#[test]
fn secrets_are_sealed_up_to_the_limit() {
    let vault = VaultKey::generate(&mut rng());
    let seal = |len| vault.seal(&vec![7; len], "context", &mut rng());
    let sealed = seal(limits::SECRET_BYTES).unwrap();
    assert_eq!(
        vault
            .open(&Sealed::decode(&sealed.encode()).unwrap(), "context")
            .unwrap()
            .len(),
        limits::SECRET_BYTES
    );
    let limit = limits::SECRET_BYTES;
    assert_eq!(
        seal(limit + 1),
        Err(SealError::TooLong {
            len: limit + 1,
            limit
        })
    );
    assert!(Sealed::decode(&vec![1; limit + 1025]).is_err());
}

#[test]
fn debug_shows_no_vault_key() {
    let vault = VaultKey::from_bytes(&[0xa7; 32]);
    assert_eq!(format!("{vault:?}"), "VaultKey(..)");
}
