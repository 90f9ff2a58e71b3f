//! An instance as readers get it, made once for all of them.

use std::sync::OnceLock;

use bytes::Bytes;

/// The rendering of one value, made when it is first asked for. It belongs to the value as it is: a changed copy has none.
#[derive(Debug, Default)]
pub struct Rendered(OnceLock<Bytes>);

impl Rendered {
    /// What `render` made of the value when it was first asked for. Cheap to clone.
    pub fn get(&self, render: impl FnOnce() -> Vec<u8>) -> &Bytes {
        self.0.get_or_init(|| {
            let mut bytes = render();
            bytes.shrink_to_fit();
            bytes.into()
        })
    }
}

impl Clone for Rendered {
    /// Nothing: a value is cloned to be changed.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Rendered {
    /// It says nothing that the value does not say.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Rendered {}
