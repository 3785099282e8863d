//! YAML, in and out.

use crate::lab_session::LabSession;
use crate::manifests::Manifests;

/// A text cannot be read as a `LabSession`, or objects cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// The text is no `LabSession`.
    #[error("not a LabSession of {api}: {reason}", api = api_version())]
    Read {
        /// Where it went wrong, and how.
        reason: String,
    },
    /// The text is something else, or of another version.
    #[error("{kind} of {version} is not a LabSession of {api}", api = api_version())]
    OtherKind {
        /// The `kind` in the text.
        kind: String,
        /// The `apiVersion` in the text.
        version: String,
    },
    /// The objects cannot be written.
    #[error("cannot write the objects as YAML: {0}")]
    Write(String),
}

fn api_version() -> String {
    format!("{}/{}", crate::lab_session::GROUP, crate::lab_session::VERSION)
}

/// The two fields by which any object of Kubernetes says what it is.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypeMeta {
    api_version: String,
    kind: String,
}

impl LabSession {
    /// Reads an object from YAML, or JSON.
    ///
    /// # Errors
    /// [`YamlError::Read`], [`YamlError::OtherKind`].
    pub fn from_yaml(text: &str) -> Result<Self, YamlError> {
        let read = |error: serde_saphyr::Error| YamlError::Read { reason: error.to_string() };
        let meta: TypeMeta = serde_saphyr::from_str(text).map_err(read)?;
        if meta.kind != "LabSession" || meta.api_version != api_version() {
            return Err(YamlError::OtherKind { kind: meta.kind, version: meta.api_version });
        }
        serde_saphyr::from_str(text).map_err(read)
    }
}

impl Manifests {
    /// The objects as YAML documents with `---` between them, in the order in which they are to be made.
    ///
    /// # Errors
    /// [`YamlError::Write`].
    pub fn to_yaml(&self) -> Result<String, YamlError> {
        let documents = self.objects();
        let documents = documents
            .iter()
            .map(|object| {
                serde_saphyr::to_string(object).map_err(|error| YamlError::Write(error.to_string()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(documents.join("---\n"))
    }
}

#[cfg(test)]
mod tests {
    use dozlab_session::plan::{Plan, PlanRequest};
    use serde_json::Value;

    use super::*;
    use crate::{PodOptions, SessionSecrets};

    #[test]
    fn what_is_written_reads_back() {
        let request = PlanRequest {
            // Names that YAML would take for something else if they were not quoted.
            session_id: Some("1e3".parse().unwrap()),
            user_id: Some("null".parse().unwrap()),
            image: Some("file:///app/image.ext4".parse().unwrap()),
            hostname: Some("0x10".parse().unwrap()),
            ..PlanRequest::default()
        };
        let plan = Plan::resolve(&request).unwrap();
        let secrets = SessionSecrets::generate(&plan.session_id, None).unwrap();
        let manifests = Manifests::new(&plan, &PodOptions::default(), Some(&secrets));
        let yaml = manifests.to_yaml().unwrap();
        let read: Vec<Value> =
            yaml.split("---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect();
        assert_eq!(read, manifests.objects());
        let kinds: Vec<&str> = read.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["Secret", "Secret", "NetworkPolicy", "Service", "Pod"]);
    }

    #[test]
    fn a_session_is_read_and_anything_else_is_refused() {
        let text = "apiVersion: dozlab.io/v1\nkind: LabSession\nmetadata:\n  name: a\nspec:\n  sessionId: a\n  userId: u\n";
        assert_eq!(LabSession::from_yaml(text).unwrap().spec.user_id, "u");
        let other = text.replace("LabSession", "Pod");
        let error = LabSession::from_yaml(&other).unwrap_err().to_string();
        assert_eq!(error, "Pod of dozlab.io/v1 is not a LabSession of dozlab.io/v1");
        let incomplete = text.replace("  userId: u\n", "");
        let error = LabSession::from_yaml(&incomplete).unwrap_err().to_string();
        assert!(error.contains("userId"), "{error}");
    }
}
