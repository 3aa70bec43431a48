//! GatewayClass (Gateway API): what holds for all Gateways of a class. What the mesh reads of it stands in its labels
//! and annotations.

use crate::read::Fields;

/// What holds for all Gateways of a class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayClass {
    /// Who makes its Gateways run.
    pub controller_name: String,
}

impl GatewayClass {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<GatewayClass> {
        fields.keep(&["status"]);
        let mut spec = fields.require("spec", "a GatewayClass needs a spec")?.fields()?;
        let controller_name = spec
            .require("controllerName", "such as istio.io/mesh-controller")
            .and_then(|field| field.text())
            .unwrap_or_default()
            .to_owned();
        spec.keep(&["description", "parametersRef"]);
        spec.finish();
        Some(GatewayClass { controller_name })
    }
}
