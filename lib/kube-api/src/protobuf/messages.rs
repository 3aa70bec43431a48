//! The messages that are read, by the field numbers of Kubernetes' public `generated.proto` files.

/// A field of a message.
pub(super) struct Field {
    pub(super) number: u64,
    /// Its name in JSON.
    pub(super) name: &'static str,
    pub(super) form: Form,
}

/// The fields of a message; others are skipped.
pub(super) type Message = &'static [Field];

/// What a field holds.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Text,
    Texts,
    /// Zero means that nothing was said.
    Number,
    /// Zero means zero.
    NumberOrNothing,
    Flag,
    FlagOrNothing,
    TextMap,
    BytesMap,
    One(Message),
    Many(Message),
    Time,
    NumberOrText,
}

impl PartialEq for Form {
    fn eq(&self, other: &Form) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// The message of a kind.
pub(super) fn of_kind(kind: &str) -> Option<Message> {
    Some(match kind {
        "Namespace" => NAMESPACE,
        "ConfigMap" => CONFIG_MAP,
        "Secret" => SECRET,
        "ServiceAccount" => SERVICE_ACCOUNT,
        "Service" => SERVICE,
        "TokenRequest" => TOKEN_REQUEST,
        "SelfSubjectAccessReview" => ACCESS_REVIEW,
        "SelfSubjectReview" => ONLY_METADATA,
        "DeleteOptions" => DELETE_OPTIONS,
        _ => return None,
    })
}

const fn field(number: u64, name: &'static str, form: Form) -> Field {
    Field { number, name, form }
}

const fn text(number: u64, name: &'static str) -> Field {
    field(number, name, Form::Text)
}

const METADATA: Field = field(1, "metadata", Form::One(OBJECT_META));

const OBJECT_META: Message = &[
    text(1, "name"),
    text(2, "generateName"),
    text(3, "namespace"),
    text(5, "uid"),
    text(6, "resourceVersion"),
    field(7, "generation", Form::Number),
    field(8, "creationTimestamp", Form::Time),
    field(9, "deletionTimestamp", Form::Time),
    field(10, "deletionGracePeriodSeconds", Form::NumberOrNothing),
    field(11, "labels", Form::TextMap),
    field(12, "annotations", Form::TextMap),
    field(13, "ownerReferences", Form::Many(OWNER_REFERENCE)),
    field(14, "finalizers", Form::Texts),
];

const OWNER_REFERENCE: Message = &[
    text(1, "kind"),
    text(3, "name"),
    text(4, "uid"),
    text(5, "apiVersion"),
    field(6, "controller", Form::FlagOrNothing),
    field(7, "blockOwnerDeletion", Form::FlagOrNothing),
];

const ONLY_METADATA: Message = &[METADATA];

const NAMESPACE: Message = &[
    METADATA,
    field(2, "spec", Form::One(&[field(1, "finalizers", Form::Texts)])),
];

const CONFIG_MAP: Message = &[
    METADATA,
    field(2, "data", Form::TextMap),
    field(3, "binaryData", Form::BytesMap),
    field(4, "immutable", Form::FlagOrNothing),
];

const SECRET: Message = &[
    METADATA,
    field(2, "data", Form::BytesMap),
    text(3, "type"),
    field(4, "stringData", Form::TextMap),
    field(5, "immutable", Form::FlagOrNothing),
];

const SERVICE_ACCOUNT: Message = &[
    METADATA,
    field(3, "imagePullSecrets", Form::Many(&[text(1, "name")])),
    field(4, "automountServiceAccountToken", Form::FlagOrNothing),
];

const SERVICE: Message = &[METADATA, field(2, "spec", Form::One(SERVICE_SPEC))];

const SERVICE_SPEC: Message = &[
    field(1, "ports", Form::Many(SERVICE_PORT)),
    field(2, "selector", Form::TextMap),
    text(3, "clusterIP"),
    text(4, "type"),
    field(5, "externalIPs", Form::Texts),
    text(7, "sessionAffinity"),
    text(10, "externalName"),
    text(11, "externalTrafficPolicy"),
    field(13, "publishNotReadyAddresses", Form::Flag),
    text(17, "ipFamilyPolicy"),
    field(18, "clusterIPs", Form::Texts),
    field(19, "ipFamilies", Form::Texts),
    text(22, "internalTrafficPolicy"),
    text(23, "trafficDistribution"),
];

const SERVICE_PORT: Message = &[
    text(1, "name"),
    text(2, "protocol"),
    field(3, "port", Form::Number),
    field(4, "targetPort", Form::NumberOrText),
    field(5, "nodePort", Form::Number),
    text(6, "appProtocol"),
];

const TOKEN_REQUEST: Message = &[
    METADATA,
    field(
        2,
        "spec",
        Form::One(&[
            field(1, "audiences", Form::Texts),
            field(
                3,
                "boundObjectRef",
                Form::One(&[
                    text(1, "kind"),
                    text(2, "apiVersion"),
                    text(3, "name"),
                    text(4, "uid"),
                ]),
            ),
            field(4, "expirationSeconds", Form::NumberOrNothing),
        ]),
    ),
];

const ACCESS_REVIEW: Message = &[
    METADATA,
    field(
        2,
        "spec",
        Form::One(&[
            field(
                1,
                "resourceAttributes",
                Form::One(&[
                    text(1, "namespace"),
                    text(2, "verb"),
                    text(3, "group"),
                    text(4, "version"),
                    text(5, "resource"),
                    text(6, "subresource"),
                    text(7, "name"),
                ]),
            ),
            field(
                2,
                "nonResourceAttributes",
                Form::One(&[text(1, "path"), text(2, "verb")]),
            ),
        ]),
    ),
];

const DELETE_OPTIONS: Message = &[
    field(1, "gracePeriodSeconds", Form::NumberOrNothing),
    field(
        2,
        "preconditions",
        Form::One(&[text(1, "uid"), text(2, "resourceVersion")]),
    ),
    field(3, "orphanDependents", Form::FlagOrNothing),
    text(4, "propagationPolicy"),
    field(5, "dryRun", Form::Texts),
];
