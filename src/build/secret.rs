//! The generated Secret: made once per app, never changed.

use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::metadata;
use crate::api::{OnDelete, ValidatedApp, labels, names};

const LETTERS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";
const LETTERS_AND_DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Characters of `SECRET_KEY_BASE`: Plug asks for 64 bytes at least; 86 of 36 kinds hold 444 bits.
const KEY_BASE: usize = 86;
/// Characters of the cookie. `libcluster_postgres` makes a channel's name of it, so it is a name: `[a-z][a-z0-9]{31}`.
const COOKIE: usize = 32;

/// A new generated Secret. `random` fills the slice with bytes fit for keys.
///
/// While it is to be retained it has no owner, and a later app of the same name finds it.
pub fn generated_secret(app: &ValidatedApp, random: &mut dyn FnMut(&mut [u8])) -> Secret {
    let mut metadata = metadata(app, names::generated_secret(&app.name), labels::of_app(&app.name));
    if app.spec.secrets.on_delete == OnDelete::Retain {
        metadata.owner_references = None;
    }
    let key_base = text(KEY_BASE, random);
    let cookie = text(COOKIE, random);
    Secret {
        metadata,
        type_: Some("Opaque".to_owned()),
        immutable: Some(true),
        data: Some(
            [("SECRET_KEY_BASE", key_base), ("RELEASE_COOKIE", cookie)]
                .map(|(key, value)| (key.to_owned(), ByteString(value)))
                .into(),
        ),
        string_data: None,
    }
}

/// A letter, then letters and digits, each as likely as the others.
fn text(length: usize, random: &mut dyn FnMut(&mut [u8])) -> Vec<u8> {
    let mut text = vec![pick(LETTERS, random)];
    text.resize_with(length, || pick(LETTERS_AND_DIGITS, random));
    text
}

/// One of the characters. Bytes beyond the last whole multiple of their number are drawn again, or the first ones
/// would be likelier; a source that yields only such bytes ends the search after 64 draws.
fn pick(characters: &[u8], random: &mut dyn FnMut(&mut [u8])) -> u8 {
    let fair = 256 - 256 % characters.len();
    let mut byte = [0];
    for _ in 0..64 {
        random(&mut byte);
        if usize::from(byte[0]) < fair {
            break;
        }
    }
    characters[usize::from(byte[0]) % characters.len()]
}
