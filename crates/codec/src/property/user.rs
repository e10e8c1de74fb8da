//! User properties.

use whimbrel_topic::ByteStr;

use super::{Property, UserPropertyRefs};

/// A user property: a name and a value, both of the application's making. Names may repeat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UserProperty {
    /// The name.
    pub name: ByteStr,
    /// The value.
    pub value: ByteStr,
}

impl UserProperty {
    /// A user property of this name and value.
    pub fn new(name: impl Into<ByteStr>, value: impl Into<ByteStr>) -> UserProperty {
        UserProperty {
            name: name.into(),
            value: value.into(),
        }
    }
}

/// A user property, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserPropertyRef<'a> {
    /// The name.
    pub name: &'a str,
    /// The value.
    pub value: &'a str,
}

impl From<UserPropertyRef<'_>> for UserProperty {
    fn from(property: UserPropertyRef<'_>) -> UserProperty {
        UserProperty::new(property.name, property.value)
    }
}

/// The user properties of a packet in their order. Empty, they take no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UserProperties(Vec<UserProperty>);

impl UserProperties {
    /// No user properties.
    pub const fn new() -> UserProperties {
        UserProperties(Vec::new())
    }

    /// Adds one at the end.
    pub fn push(&mut self, property: UserProperty) {
        self.0.push(property);
    }

    /// The properties in order.
    pub fn as_slice(&self) -> &[UserProperty] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of the first property of this name.
    pub fn first(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|property| property.name == *name);
        found.map(|property| property.value.as_str())
    }

    /// Removes all, and gives the memory back.
    pub fn clear(&mut self) {
        self.0 = Vec::new();
    }

    /// The properties as they are encoded.
    pub(crate) fn properties(&self) -> impl Iterator<Item = Property<'_>> + Clone {
        self.0.iter().map(|property| {
            Property::UserProperty(UserPropertyRef {
                name: &property.name,
                value: &property.value,
            })
        })
    }
}

impl FromIterator<UserProperty> for UserProperties {
    fn from_iter<I: IntoIterator<Item = UserProperty>>(properties: I) -> UserProperties {
        UserProperties(properties.into_iter().collect())
    }
}

impl From<UserPropertyRefs<'_>> for UserProperties {
    fn from(properties: UserPropertyRefs<'_>) -> UserProperties {
        properties.map(UserProperty::from).collect()
    }
}

impl<'a> IntoIterator for &'a UserProperties {
    type Item = &'a UserProperty;
    type IntoIter = std::slice::Iter<'a, UserProperty>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
