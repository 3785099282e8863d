//! The package databases in a tree: `dpkg`'s status, also in the parts that images without `dpkg` have, and
//! Alpine's list of what is installed.
//!
//! The tree is a stranger's: what is malformed is passed over, and no more than a bounded part of a file is read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use tar::Archive;

use super::{Package, PackageFormat};
use crate::cancel::CancelFlag;

/// `dpkg(1)`: the status of all packages.
const DPKG_STATUS: &str = "var/lib/dpkg/status";
/// The same, a file a package, as images without `dpkg` have it.
const DPKG_STATUS_PARTS: &str = "var/lib/dpkg/status.d/";
/// `apk(5)`: the installed packages; where it was, and where it is since version 3.
const APK_INSTALLED: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];
/// `os-release(5)`, and where the first mostly leads to.
const OS_RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

/// The most that is read of one file: the status of a Debian with thousands of packages takes 5 MB.
const MOST_BYTES: u64 = 32 << 20;

/// The packages that the tree in a tar says it has, sorted.
pub(in crate::build) fn packages_in(tar: &Path, cancel: &CancelFlag) -> io::Result<Vec<Package>> {
    let mut packages = Vec::new();
    let mut distribution = None;
    for entry in Archive::new(File::open(tar)?).entries()? {
        cancel.check()?;
        let mut entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = path.trim_start_matches("./");
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let parse: fn(&str) -> Option<Package> = match path {
            DPKG_STATUS => parse_dpkg,
            part if part.starts_with(DPKG_STATUS_PARTS) && !part.ends_with(".md5sums") => parse_dpkg,
            path if APK_INSTALLED.contains(&path) => parse_apk,
            path if OS_RELEASE.contains(&path) => {
                distribution = distribution_id(&read(&mut entry)?).or(distribution);
                continue;
            }
            _ => continue,
        };
        packages.extend(read(&mut entry)?.split("\n\n").filter_map(parse));
    }
    if let Some(distribution) = distribution {
        packages.iter_mut().for_each(|package| package.distribution.clone_from(&distribution));
    }
    packages.sort();
    packages.dedup();
    Ok(packages)
}

fn read(entry: &mut impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    entry.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A stanza of `dpkg`'s status. A package that was removed and left its configuration is none that is there; the parts
/// of images without `dpkg` say no state.
fn parse_dpkg(stanza: &str) -> Option<Package> {
    let field = |name: &str| value(stanza, name, ": ");
    if field("Status").is_some_and(|status| !status.ends_with(" installed")) {
        return None;
    }
    Some(Package {
        name: word(field("Package")?)?,
        version: word(field("Version")?)?,
        architecture: word(field("Architecture")?)?,
        sha256: None,
        homepage: field("Homepage").and_then(word),
        format: PackageFormat::Deb,
        distribution: "debian".to_owned(),
    })
}

/// A paragraph of Alpine's list, whose fields have one letter each.
fn parse_apk(stanza: &str) -> Option<Package> {
    let field = |name: &str| value(stanza, name, ":");
    Some(Package {
        name: word(field("P")?)?,
        version: word(field("V")?)?,
        architecture: word(field("A")?)?,
        sha256: None,
        homepage: field("U").and_then(word),
        format: PackageFormat::Apk,
        distribution: "alpine".to_owned(),
    })
}

fn value<'a>(stanza: &'a str, name: &str, separator: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(separator)).map(str::trim)
}

/// A value that can be in a document: one word of printable ASCII.
fn word(text: &str) -> Option<String> {
    (!text.is_empty() && text.chars().all(|each| each.is_ascii_graphic())).then(|| text.to_owned())
}

fn distribution_id(release: &str) -> Option<String> {
    let id = value(release, "ID", "=")?.trim_matches(['"', '\'']);
    let is_id = |each: char| each.is_ascii_lowercase() || each.is_ascii_digit() || "._-".contains(each);
    (!id.is_empty() && id.chars().all(is_id)).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(files: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = tar::Builder::new(file.as_file());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        builder.finish().unwrap();
        drop(builder);
        file
    }

    fn purls(files: &[(&str, &str)]) -> Vec<String> {
        packages_in(tar_of(files).path(), &CancelFlag::default()).unwrap().iter().map(Package::purl).collect()
    }

    #[test]
    fn a_debian_names_its_installed_packages() {
        let status = "Package: vim\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2:9.1-1\n\
                      Description: an editor\n Package: fake\n\n\
                      Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n\
                      Package: adduser\nStatus: install ok installed\nArchitecture: all\nVersion: 3\n";
        let files = [("etc/os-release", "NAME=x\nID=ubuntu\nVERSION_ID=1\n"), (DPKG_STATUS, status)];
        let expected = ["pkg:deb/ubuntu/adduser@3?arch=all", "pkg:deb/ubuntu/vim@2:9.1-1?arch=amd64"];
        assert_eq!(purls(&files), expected);
    }

    #[test]
    fn a_debian_without_dpkg_names_its_packages_in_parts() {
        let part = "Package: tzdata\nVersion: 2025b-0+deb12u1\nArchitecture: all\n";
        let files = [
            ("var/lib/dpkg/status.d/tzdata", part),
            ("var/lib/dpkg/status.d/tzdata.md5sums", "Package: no\nVersion: 1\nArchitecture: all\n"),
        ];
        assert_eq!(purls(&files), ["pkg:deb/debian/tzdata@2025b-0%2Bdeb12u1?arch=all"]);
    }

    #[test]
    fn an_alpine_names_its_packages() {
        let installed = "C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nU:https://musl.libc.org/\nF:lib\nR:ld.so\n\n\
                         P:busybox\nV:1.36.1-r29\nA:x86_64\n\n";
        let expected =
            ["pkg:apk/alpine/busybox@1.36.1-r29?arch=x86_64", "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64"];
        assert_eq!(purls(&[(APK_INSTALLED[0], installed)]), expected);
        assert_eq!(purls(&[(APK_INSTALLED[1], installed)]), expected);
    }

    #[test]
    fn what_is_malformed_or_elsewhere_is_no_package() {
        let stanza = "Package: a b\nVersion: 1\nArchitecture: all\n\nPackage: c\n\n\u{0}\u{1}\n";
        assert_eq!(purls(&[(DPKG_STATUS, stanza), ("srv/var/lib/dpkg/status", "Package: x\n")]), [""; 0]);
        let dpkg = "Package: x\nVersion: 1\nArchitecture: all\n";
        let files = [("etc/os-release", "ID=../evil\n"), (DPKG_STATUS, dpkg)];
        assert_eq!(purls(&files), ["pkg:deb/debian/x@1?arch=all"]);
    }
}
