//! The index finds what walking everything finds.

use std::sync::Arc;

use objects::selector::{self, Labels};
use objects::{Kind, Object, ObjectKey};
use proptest::prelude::*;

use super::selector_of;
use crate::index::Index;

const KINDS: [Kind; 3] = [Kind::AuthorizationPolicy, Kind::PeerAuthentication, Kind::Service];

fn object(kind: Kind, namespace: &str, name: &str, labels: &Labels) -> Arc<Object> {
    let selector = match kind {
        Kind::Service => format!("selector: {labels:?}\n  ports: [{{port: 80}}]"),
        _ => format!("selector: {{matchLabels: {labels:?}}}"),
    };
    let version = match kind {
        Kind::Service => "v1",
        _ => "security.istio.io/v1",
    };
    let text = format!(
        "apiVersion: {version}\nkind: {}\nmetadata: {{namespace: {namespace}, name: {name}}}\nspec:\n  {selector}\n",
        kind.as_str()
    );
    let read = objects::parse("test.yaml", &text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    Arc::new(read.into_iter().next().expect("one object"))
}

/// Up to two of three labels with one of two values each.
fn labels() -> impl Strategy<Value = Labels> {
    let label = (
        prop::sample::select(vec!["a", "b", "c"]),
        prop::sample::select(vec!["1", "2"]),
    );
    prop::collection::btree_map(label.0, label.1, 0..3).prop_map(|map| {
        let owned = map
            .into_iter()
            .map(|(label, value)| (label.to_owned(), value.to_owned()));
        owned.collect()
    })
}

proptest! {
    #[test]
    fn the_index_finds_what_walking_everything_finds(
        steps in prop::collection::vec((0..3_usize, 0..2_u8, 0..6_u8, prop::option::weighted(0.7, labels())), 1..40),
        asked in labels(),
    ) {
        let mut index = Index::default();
        for (kind, namespace, name, selector) in steps {
            let (kind, namespace, name) = (KINDS[kind], format!("n{namespace}"), format!("o{name}"));
            let put = selector.map(|selector| object(kind, &namespace, &name, &selector));
            index.set(ObjectKey::new(kind, &namespace, &name), put);
        }
        for kind in KINDS {
            for namespace in ["n0", "n1"] {
                let selector = |object: &Object| selector_of(object).cloned().unwrap_or_default();
                let all = || index.of(kind, namespace).map(Arc::as_ref);
                let walked: Vec<&Object> = all()
                    .filter(|object| {
                        let wanted = selector(object);
                        !wanted.is_empty() && selector::matches(&asked, &wanted)
                    })
                    .collect();
                prop_assert_eq!(index.selecting(kind, namespace, &asked), walked);
                let wide: Vec<&Object> = all().filter(|object| selector(object).is_empty()).collect();
                prop_assert_eq!(index.without_selector(kind, namespace).collect::<Vec<_>>(), wide);
            }
        }
        // Nothing is left behind of what is gone.
        let keys: Vec<ObjectKey> = KINDS.into_iter().flat_map(|kind| index.all(kind).map(|o| o.key())).collect();
        for key in keys {
            index.set(key, None);
        }
        prop_assert!(index.selectors.places.is_empty());
    }
}
