//! Objects at rest, small: nearly all of what a cluster holds is not looked at for hours.
//!
//! The objects of one kind resemble each other, so each is kept as its JSON, compressed with another of its kind as the
//! dictionary. It is read back, whole, for each pass over its app.

use std::sync::{Arc, PoisonError, RwLock};

use serde::{Serialize, de::DeserializeOwned};

/// How far LZ4 looks back.
const LONGEST: usize = 64 * 1024;

/// A dictionary, in which each object that was packed with it has a share.
type Sample = Arc<Box<[u8]>>;

/// Packs the objects of one kind.
#[derive(Debug, Default)]
pub struct Packer(RwLock<Sample>);

/// A packed object.
#[derive(Clone, Debug)]
pub struct Packed {
    /// How long its name is, its name, and the rest compressed: one piece of memory, as there are a great many.
    text: Box<[u8]>,
    sample: Sample,
}

impl Packer {
    /// Packs an object of this name; none when it cannot be written as JSON, or is called what nothing in Kubernetes can be.
    pub fn pack<K: Serialize>(&self, name: &str, object: &K) -> Option<Packed> {
        let length = u8::try_from(name.len()).ok()?;
        let text = serde_json::to_vec(object).ok()?;
        let sample = self.sample(&text);
        let text = lz4_flex::block::compress_prepend_size_with_dict(&text, &sample);
        let text = [&[length], name.as_bytes(), &text].concat().into_boxed_slice();
        Some(Packed { text, sample })
    }

    /// The dictionary for a text. One that is longer by a half than all before it takes their place: the first objects
    /// are those of which least has come to be. That happens seldom, so there are few dictionaries.
    fn sample(&self, text: &[u8]) -> Sample {
        let text = &text[..text.len().min(LONGEST)];
        let suits = |sample: &Sample| text.len() * 2 <= sample.len() * 3;
        let sample = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        if suits(&sample) {
            return sample;
        }
        let mut newest = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !suits(&newest) {
            *newest = Arc::new(text.into());
        }
        newest.clone()
    }
}

impl Packed {
    /// The name it was packed with.
    pub fn name(&self) -> &str {
        let (name, _) = self.parts();
        std::str::from_utf8(name).unwrap_or_default()
    }

    /// Reads the object back; none when it is of another type.
    pub fn unpack<K: DeserializeOwned>(&self) -> Option<K> {
        let (_, text) = self.parts();
        let text = lz4_flex::block::decompress_size_prepended_with_dict(text, &self.sample).ok()?;
        // As what is sent is read: the code for all that is in a pod's template is there once.
        serde_json::from_str(std::str::from_utf8(&text).ok()?).ok()
    }

    /// Its name, and what is compressed.
    fn parts(&self) -> (&[u8], &[u8]) {
        let [length, rest @ ..] = &*self.text else { return (&[], &[]) };
        rest.split_at_checked(usize::from(*length)).unwrap_or_default()
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
        let small: Vec<Packed> = objects.iter().map(|object| kind.pack("a", object).unwrap()).collect();
        for (object, one) in objects.iter().zip(&small) {
            assert_eq!(one.unpack::<K>().as_ref(), Some(object));
        }
        small.iter().map(|one| one.text.len()).collect()
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
            let back: PhoenixApp = kind.pack("a", &app).unwrap().unpack().unwrap();
            assert_eq!(serde_json::to_value(back).unwrap(), serde_json::to_value(app).unwrap());
        }
    }

    #[test]
    fn the_dictionary_grows_with_what_is_packed_and_what_was_packed_stays_readable() {
        let kind = Packer::default();
        let text = |length: usize| (0..length).map(|at| at.to_string()).collect::<String>();
        let young = kind.pack("young", &text(20)).unwrap();
        let grown = kind.pack("grown", &text(200)).unwrap();
        let next = kind.pack("", &text(210)).unwrap();
        assert!(Arc::ptr_eq(&grown.sample, &next.sample));
        assert!(next.text.len() * 4 < grown.text.len() + text(210).len(), "{}", next.text.len());
        for (packed, length) in [(&young, 20), (&grown, 200), (&next, 210)] {
            assert_eq!(packed.unpack::<String>(), Some(text(length)));
        }
        assert_eq!(kind.pack("a", &"text").unwrap().unpack::<u64>(), None);
        assert_eq!([young.name(), grown.name(), next.name()], ["young", "grown", ""]);
        let (longest, longer) = ("n".repeat(255), "n".repeat(256));
        assert_eq!(kind.pack(&longest, &1).unwrap().name(), longest);
        assert!(kind.pack(&longer, &1).is_none());
    }
}
