//! Objects at rest, small: nearly all of what a cluster holds is not looked at for hours.
//!
//! The objects of one kind resemble each other, so each is kept as its JSON, compressed with the first one of its kind as
//! the dictionary. It is read back, whole, for each pass over its app.

use std::sync::OnceLock;

use serde::{Serialize, de::DeserializeOwned};

/// How far LZ4 looks back.
const LONGEST: usize = 64 * 1024;

/// Packs the objects of one kind.
#[derive(Debug, Default)]
pub struct Packer(OnceLock<Vec<u8>>);

/// A packed object.
#[derive(Clone, Debug)]
pub struct Packed(Box<[u8]>);

impl Packer {
    /// Packs an object; none when it cannot be written as JSON.
    pub fn pack<K: Serialize>(&self, object: &K) -> Option<Packed> {
        let text = serde_json::to_vec(object).ok()?;
        let sample = self.0.get_or_init(|| text[..text.len().min(LONGEST)].to_vec());
        Some(Packed(lz4_flex::block::compress_prepend_size_with_dict(&text, sample).into_boxed_slice()))
    }

    /// Reads an object back; none when it was not packed here.
    pub fn unpack<K: DeserializeOwned>(&self, packed: &Packed) -> Option<K> {
        let text = lz4_flex::block::decompress_size_prepended_with_dict(&packed.0, self.0.get()?).ok()?;
        // As what is sent is read: the code for all that is in a pod's template is there once.
        serde_json::from_str(std::str::from_utf8(&text).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{PhoenixApp, testing::app},
        build::{Settings, active_service, controller_revision, deployment, render},
    };

    fn comes_back<K>(objects: &[K]) -> Vec<usize>
    where
        K: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let kind = Packer::default();
        let small: Vec<Packed> = objects.iter().map(|object| kind.pack(object).unwrap()).collect();
        for (object, one) in objects.iter().zip(&small) {
            assert_eq!(kind.unpack::<K>(one).as_ref(), Some(object));
        }
        small.iter().map(|one| one.0.len()).collect()
    }

    #[test]
    fn what_is_packed_comes_back_and_another_of_its_kind_takes_little() {
        let app = app("{image: \"example.com/shop:1\", hosts: [shop.example.com]}");
        let revision = |name: &str| render(&app, &name.parse().unwrap(), &Settings::default());
        let revisions = [revision("0123456789"), revision("abcdef0123")];
        let stored: Vec<_> =
            revisions.iter().map(|revision| controller_revision(&app, revision, 1)).collect();
        let sizes = comes_back(&stored);
        let whole = serde_json::to_vec(&stored[1]).unwrap().len();
        assert!(sizes[1] * 8 < whole, "{sizes:?} of {whole}");
        comes_back(&revisions.each_ref().map(|revision| deployment(&app, revision, 2, None)));
        comes_back(&[active_service(&app, &crate::build::ServiceSelector::Wide)]);
    }

    #[test]
    fn the_example_apps_come_back() {
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
        let mut apps: Vec<PhoenixApp> = Vec::new();
        for entry in std::fs::read_dir(examples).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let documents =
                text.split("\n---\n").filter(|text| text.lines().any(|line| line == "kind: PhoenixApp"));
            apps.extend(documents.map(|text| serde_saphyr::from_str::<PhoenixApp>(text).unwrap()));
        }
        assert!(apps.len() >= 10, "{}", apps.len());
        let kind = Packer::default();
        for app in apps {
            let back: PhoenixApp = kind.unpack(&kind.pack(&app).unwrap()).unwrap();
            assert_eq!(serde_json::to_value(back).unwrap(), serde_json::to_value(app).unwrap());
        }
    }

    #[test]
    fn what_another_packed_is_refused() {
        let packed = Packer::default().pack(&"text").unwrap();
        assert_eq!(Packer::default().unpack::<String>(&packed), None);
    }
}
