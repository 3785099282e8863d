//! The definition of the custom resource, as an API server takes it.

use dozlab_pod::LabSession;
use kube::CustomResourceExt as _;
use serde_json::Value;

/// Where a schema has its rules in CEL. Servers before Kubernetes 1.25 refuse to apply a definition that has
/// any.
const RULES: &str = "x-kubernetes-validations";

/// The definition of `LabSession`, with its rules or without. The controller checks all that matters of them
/// again.
#[must_use]
pub fn definition(with_rules: bool) -> Value {
    let mut definition =
        serde_json::to_value(LabSession::crd()).expect("the definition has only texts as keys");
    if !with_rules {
        remove_rules(&mut definition);
    }
    definition
}

fn remove_rules(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove(RULES);
            fields.values_mut().for_each(remove_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_rules),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_in_deploy_has_the_definition_of_these_types() {
        let deployed: Value =
            serde_json::from_str(include_str!("../../../deploy/base/labsessions.yaml")).unwrap();
        assert_eq!(deployed, definition(true), "run: dozlab crd > deploy/base/labsessions.yaml");
    }

    #[test]
    fn only_the_rules_are_left_out() {
        let (with, without) = (definition(true), definition(false));
        assert!(with.to_string().contains(RULES));
        assert!(!without.to_string().contains(RULES));
        assert_eq!(without["metadata"]["name"], with["metadata"]["name"]);
    }
}
