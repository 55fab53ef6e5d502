use eidetica_auth::{KeyError, SecretKey, check_public_key};
use eidetica_entry::PublicKey;
use rand::{SeedableRng, rngs::StdRng};

use crate::secret;

#[test]
fn the_secret_of_rfc_8032_has_its_public_key_and_signature() {
    // RFC 8032, section 7.1, test 2.
    let text = "ed25519-secret:4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    let key = SecretKey::from_text(text).unwrap();
    assert_eq!(
        key.public().to_string(),
        "ed25519:3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    );
    assert_eq!(
        key.sign(&[0x72]).to_string(),
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    );
    assert_eq!(*key.expose_text(), text);
}

#[test]
fn generated_keys_differ_and_come_from_the_generator() {
    let key = |seed| SecretKey::generate(&mut StdRng::seed_from_u64(seed)).public();
    assert_eq!(key(1), key(1));
    assert_ne!(key(1), key(2));
}

#[test]
fn debug_shows_no_secret() {
    let key = secret(0xa7);
    let shown = format!("{key:?} {:?} {:#?}", Some(&key), (&key, 1));
    assert!(
        !shown.contains("a7a7") && !shown.contains("167, 167"),
        "{shown}"
    );
    assert!(shown.contains(&key.public().to_string()));
}

#[test]
fn other_texts_are_no_secret_key_and_are_not_repeated() {
    let good = secret(3).expose_text().to_string();
    let public = secret(3).public().to_string();
    let upper = format!(
        "ed25519-secret:{}",
        &good["ed25519-secret:".len()..]
            .to_uppercase()
            .replace('0', "A")
    );
    for text in [
        "",
        "ed25519-secret:",
        &good[..good.len() - 1],
        &format!("{good}0"),
        &public,
        &upper,
    ] {
        let error = SecretKey::from_text(text).unwrap_err();
        assert_eq!(error, KeyError::Text);
        assert!(text.is_empty() || !error.to_string().contains(text) || text == "ed25519-secret:");
    }
}

#[test]
fn keys_that_are_no_points_or_of_small_order_are_refused() {
    let small = |low: u8, middle: u8, high: u8| {
        let mut bytes = [middle; 32];
        (bytes[0], bytes[31]) = (low, high);
        check_public_key(&PublicKey::new(bytes))
    };
    for high in [0x00, 0x80] {
        assert_eq!(small(0, 0, high), Err(KeyError::SmallOrder));
        assert_eq!(small(1, 0, high), Err(KeyError::SmallOrder));
        assert_eq!(small(0xec, 0xff, 0x7f | high), Err(KeyError::SmallOrder));
        assert_eq!(small(0xed, 0xff, 0x7f | high), Err(KeyError::SmallOrder));
        assert_eq!(small(0xee, 0xff, 0x7f | high), Err(KeyError::SmallOrder));
        // y = 2 is no point; y = 3 is one, and p + 3 another encoding of it.
        assert_eq!(small(2, 0, high), Err(KeyError::NotAPoint));
        assert_eq!(small(3, 0, high), Ok(()));
        assert_eq!(small(0xf0, 0xff, 0x7f | high), Err(KeyError::NotAPoint));
    }
    assert_eq!(check_public_key(&secret(1).public()), Ok(()));
}
