//! What an image was built from, and what is in it, as the two documents that others' tools read: an in-toto
//! statement with SLSA provenance (<https://slsa.dev/spec/v1.0/provenance>), and an SPDX 2.3 list of
//! software.
//!
//! Neither holds a time of day or anything else of this machine: the same build gives the same documents.

use serde_json::{Value, json};

use super::software::Package;

/// Who builds, and how: the page that documents `image.toml`.
const BUILD_TYPE: &str = "https://github.com/DozLab/dozlab/tree/main/images#build-v1";
const BUILDER: &str = "https://github.com/DozLab/dozlab";

/// Everything that went into a build, and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Provenance {
    pub(super) name: String,
    /// The definition's files and the programs of its sources, by name, with their SHA-256.
    pub(super) definition: Vec<(String, String)>,
    /// The base: `Debian bookworm`, or an OCI reference.
    pub(super) base: String,
    /// What the base was read from, with its SHA-256: Debian's `InRelease` files, an OCI image's manifest.
    pub(super) base_digests: Vec<(String, String)>,
    pub(super) packages: Vec<Package>,
    /// Programs and their versions.
    pub(super) tools: Vec<(String, String)>,
    /// Seconds since the epoch.
    pub(super) date: i64,
}

/// A file that a statement is about.
pub(super) struct Subject<'a> {
    pub(super) name: &'a str,
    pub(super) sha256: &'a str,
}

impl Provenance {
    pub(super) fn statement(&self, subjects: &[Subject<'_>]) -> Value {
        let subjects: Vec<Value> = subjects
            .iter()
            .map(|subject| json!({ "name": subject.name, "digest": { "sha256": subject.sha256 } }))
            .collect();
        let named =
            |(name, sha256): &(String, String)| json!({ "name": name, "digest": { "sha256": sha256 } });
        // What came inside an OCI image is part of that.
        let package = |package: &Package| {
            let sha256 = package.sha256.as_ref()?;
            Some(json!({ "uri": package.purl(), "digest": { "sha256": sha256 } }))
        };
        let dependencies: Vec<Value> = (self.definition.iter().map(named))
            .chain(self.base_digests.iter().map(named))
            .chain(self.packages.iter().filter_map(package))
            .collect();
        let versions: serde_json::Map<String, Value> =
            self.tools.iter().map(|(tool, version)| (tool.clone(), json!(version))).collect();
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subjects,
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {
                        "image": self.name,
                        "base": self.base,
                        "sourceDateEpoch": self.date,
                    },
                    "resolvedDependencies": dependencies,
                },
                "runDetails": { "builder": { "id": BUILDER, "version": versions } },
            },
        })
    }

    pub(super) fn software(&self, image: &Subject<'_>) -> Value {
        let created = chrono::DateTime::from_timestamp(self.date, 0).unwrap_or_default();
        let id = |package: &Package| {
            // Letters, digits, `.` and `-` are what an SPDX id may have.
            let name = package.name.replace('+', "-plus");
            format!("SPDXRef-Package-{name}-{}", package.architecture)
        };
        let packages: Vec<Value> = self
            .packages
            .iter()
            .map(|package| {
                let mut described = json!({
                    "SPDXID": id(package),
                    "name": package.name,
                    "versionInfo": package.version,
                    "supplier": supplier(package),
                    "downloadLocation": "NOASSERTION",
                    "filesAnalyzed": false,
                    "licenseConcluded": "NOASSERTION",
                    "licenseDeclared": "NOASSERTION",
                    "copyrightText": "NOASSERTION",
                    "externalRefs": [{
                        "referenceCategory": "PACKAGE-MANAGER",
                        "referenceType": "purl",
                        "referenceLocator": package.purl(),
                    }],
                });
                if let Some(sha256) = &package.sha256 {
                    described["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": sha256 }]);
                }
                if let Some(homepage) = &package.homepage {
                    described["homepage"] = json!(homepage);
                }
                described
            })
            .collect();
        let relationships: Vec<Value> = self
            .packages
            .iter()
            .map(|package| {
                json!({
                    "spdxElementId": "SPDXRef-DOCUMENT",
                    "relationshipType": "DESCRIBES",
                    "relatedSpdxElement": id(package),
                })
            })
            .collect();
        json!({
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": image.name,
            "documentNamespace": format!("{BUILDER}/spdx/{}/{}", self.name, image.sha256),
            "creationInfo": {
                "created": created.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "creators": [format!("Tool: dozlab-{}", env!("CARGO_PKG_VERSION"))],
            },
            "packages": packages,
            "relationships": relationships,
        })
    }
}

/// Whom a package is from: nobody has checked what an image says of itself.
fn supplier(package: &Package) -> &'static str {
    if package.sha256.is_some() { "Organization: Debian" } else { "NOASSERTION" }
}
