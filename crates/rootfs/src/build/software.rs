//! Which packages are in an image.
//!
//! Of a tree that Debian's packages made, the stanzas of Debian's package indices say so: apt has checked the
//! indices' signatures and the packages' digests before anything was unpacked, so a digest in a stanza is that
//! of the package that was used. Of an OCI image, its own [package database](installed) does, which nobody has
//! checked.

pub(super) mod installed;

use serde::Serialize;

/// A package in an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Package {
    /// Its name: `libc6`.
    pub name: String,
    /// Its version: `2.36-9+deb12u10`.
    pub version: String,
    /// Its architecture: `amd64`, or `all`.
    pub architecture: String,
    /// The SHA-256 of the `.deb`, 64 hexadecimal digits; `None` where nobody has checked one.
    pub sha256: Option<String>,
    /// Where its upstream lives, if the package says.
    pub homepage: Option<String>,
    /// What kind of package it is.
    pub format: PackageFormat,
    /// Whose package it is, the `ID` of `os-release(5)`: `debian`, `ubuntu`, `alpine`.
    pub distribution: String,
}

/// The kinds of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PackageFormat {
    /// `dpkg`'s.
    Deb,
    /// Alpine's.
    Apk,
}

impl Package {
    /// Its package URL (<https://github.com/package-url/purl-spec>):
    /// `pkg:deb/debian/libc6@2.36-9?arch=amd64`.
    #[must_use]
    pub fn purl(&self) -> String {
        let Self { name, version, architecture, distribution, .. } = self;
        let format = match self.format {
            PackageFormat::Deb => "deb",
            PackageFormat::Apk => "apk",
        };
        let (name, version) = (percent_encoded(name), percent_encoded(version));
        format!("pkg:{format}/{distribution}/{name}@{version}?arch={architecture}")
    }
}

/// The characters of names and versions that have a meaning in a package URL: an epoch's `:` does not.
fn percent_encoded(text: &str) -> String {
    text.replace('%', "%25").replace('+', "%2B")
}

/// The packages of the stanzas that `apt-cache show` prints, sorted. A stanza without name, version,
/// architecture and digest is none of a package that apt has fetched.
pub(super) fn parse_stanzas(text: &str) -> Vec<Package> {
    let mut packages: Vec<Package> = text.split("\n\n").filter_map(parse_stanza).collect();
    packages.sort();
    packages.dedup();
    packages
}

fn parse_stanza(stanza: &str) -> Option<Package> {
    let field = |name: &str| {
        stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
    };
    Some(Package {
        name: field("Package")?,
        version: field("Version")?,
        architecture: field("Architecture")?,
        sha256: Some(field("SHA256")?),
        homepage: field("Homepage"),
        format: PackageFormat::Deb,
        distribution: "debian".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_from_stanzas_and_have_a_url() {
        let text = "Package: vim\nVersion: 2:9.0.1378-2+deb12u2\nArchitecture: amd64\nDescription-en: editor\n \
                    Package: fake\nSHA256: aa\nHomepage: https://www.vim.org/\n\nPackage: half\nVersion: 1\n";
        let packages = parse_stanzas(text);
        assert_eq!(packages.len(), 1, "{packages:?}");
        assert_eq!(packages[0].purl(), "pkg:deb/debian/vim@2:9.0.1378-2%2Bdeb12u2?arch=amd64");
        assert_eq!(packages[0].homepage.as_deref(), Some("https://www.vim.org/"));
    }
}
