//! Checksums and signatures.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use sha2::Sha256;

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

pub fn md5(bytes: &[u8]) -> String {
    base64(&Md5::digest(bytes))
}

/// HMAC as RFC 2104 has it, over SHA-256.
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    if key.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().into()
}

/// The tables of the service's CRC-64, eight bytes at a time.
static TABLES: LazyLock<[[u64; 256]; 8]> = LazyLock::new(|| {
    let mut tables = [[0_u64; 256]; 8];
    for n in 0..256_u64 {
        let mut crc = n;
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x9A6C_9329_AC4B_C9B5 } else { crc >> 1 };
        }
        tables[0][n as usize] = crc;
    }
    for n in 0..256 {
        for table in 1..8 {
            let before = tables[table - 1][n];
            tables[table][n] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
        }
    }
    tables
});

/// The CRC-64 that `x-ms-content-crc64` carries, in base64 of its little-endian bytes.
pub fn crc64(bytes: &[u8]) -> String {
    base64(&crc64_value(bytes).to_le_bytes())
}

pub fn crc64_value(bytes: &[u8]) -> u64 {
    let tables = &*TABLES;
    let mut crc = !0_u64;
    let mut eights = bytes.chunks_exact(8);
    for eight in &mut eights {
        let x = crc ^ u64::from_le_bytes(eight.try_into().unwrap());
        crc = (0..8).fold(0, |sum, n| sum ^ tables[7 - n][(x >> (8 * n) & 0xff) as usize]);
    }
    for byte in eights.remainder() {
        crc = (crc >> 8) ^ tables[0][((crc ^ u64::from(*byte)) & 0xff) as usize];
    }
    !crc
}
