//! One image of a layout: its configuration and its layers, for this machine's platform.

use oci_spec::image::{
    Descriptor, Digest, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Platform,
};

use crate::layout::{Layout, LayoutError};

/// The annotation that holds an image's tag in a layout's index.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// An index may name further indexes; more levels than this mean nothing good.
const DEEPEST_INDEX: usize = 4;

/// Docker's names of what OCI has made a standard of.
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYERS: [&str; 5] = [
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// An image whose documents were read, verified, and found to fit together. Its layers were not looked at yet.
#[derive(Clone, Debug)]
pub struct Image {
    layout: Layout,
    digest: Digest,
    configuration: ImageConfiguration,
    layers: Vec<Layer>,
}

/// One layer: a tar, perhaps compressed, of what it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The blob.
    pub descriptor: Descriptor,
    /// The digest of the tar once it is not compressed.
    pub diff_id: Digest,
}

impl Image {
    /// The layout it lies in.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The digest of its manifest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// User, environment, command and so on.
    #[must_use]
    pub fn configuration(&self) -> &ImageConfiguration {
        &self.configuration
    }

    /// The layers, the lowest first.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    pub(crate) fn choose(
        layout: &Layout,
        index: &ImageIndex,
        tag: Option<&str>,
    ) -> Result<Self, LayoutError> {
        let mut descriptor = entry(index, tag)?.clone();
        for _ in 0..DEEPEST_INDEX {
            if !is_index(descriptor.media_type()) {
                return Self::of_manifest(layout, &descriptor);
            }
            let nested: ImageIndex = layout.document(&descriptor, "index")?;
            descriptor = for_this_machine(&nested)?.clone();
        }
        Err(LayoutError::Unsupported(format!("its indexes are nested deeper than {DEEPEST_INDEX} levels")))
    }

    fn of_manifest(layout: &Layout, descriptor: &Descriptor) -> Result<Self, LayoutError> {
        if !is_manifest(descriptor.media_type()) {
            return Err(LayoutError::Unsupported(format!("its manifest is a {}", descriptor.media_type())));
        }
        let manifest: ImageManifest = layout.document(descriptor, "manifest")?;
        check(&manifest)?;
        let configuration: ImageConfiguration = layout.document(manifest.config(), "configuration")?;
        let platform = format!("{}/{}", configuration.os(), configuration.architecture());
        if platform != this_platform() {
            return Err(LayoutError::Platform { wanted: this_platform(), available: vec![platform] });
        }
        let layers = pair(&manifest, &configuration)?;
        Ok(Self { layout: layout.clone(), digest: descriptor.digest().clone(), configuration, layers })
    }
}

/// Whether this is an image's manifest, of layers that can be unpacked.
pub(crate) fn check(manifest: &ImageManifest) -> Result<(), LayoutError> {
    let config = manifest.config().media_type();
    if !(*config == MediaType::ImageConfig || config.to_string() == DOCKER_CONFIG) {
        return Err(LayoutError::Unsupported(format!("its configuration is a {config}, not an image's")));
    }
    match manifest.layers().iter().find(|layer| !is_layer(layer.media_type())) {
        Some(layer) => {
            Err(LayoutError::Unsupported(format!("one of its layers is a {}", layer.media_type())))
        }
        None => Ok(()),
    }
}

/// Each layer with the digest that the configuration has for it.
fn pair(manifest: &ImageManifest, configuration: &ImageConfiguration) -> Result<Vec<Layer>, LayoutError> {
    let (layers, diff_ids) = (manifest.layers(), configuration.rootfs().diff_ids());
    if layers.len() != diff_ids.len() {
        return Err(LayoutError::Unsupported(format!(
            "its manifest has {} layers, its configuration {}",
            layers.len(),
            diff_ids.len()
        )));
    }
    let pair = |(descriptor, diff_id): (&Descriptor, &String)| {
        let diff_id: Digest = diff_id.parse().map_err(|error| {
            LayoutError::Unsupported(format!("the digest {diff_id:?} of a layer: {error}"))
        })?;
        Ok(Layer { descriptor: descriptor.clone(), diff_id })
    };
    layers.iter().zip(diff_ids).map(pair).collect()
}

/// The entry of a layout's index that was asked for.
fn entry<'a>(index: &'a ImageIndex, tag: Option<&str>) -> Result<&'a Descriptor, LayoutError> {
    let available = || index.manifests().iter().filter_map(tag_of).map(str::to_owned).collect::<Vec<_>>();
    if let Some(tag) = tag {
        // `ctr` and others write the whole name there.
        let fits = |entry: &&Descriptor| {
            tag_of(entry)
                .is_some_and(|name| name == tag || name.rsplit_once(':').is_some_and(|(_, end)| end == tag))
                || entry.digest().as_ref() == tag
        };
        let missing = || LayoutError::NoSuchImage { tag: tag.to_owned(), available: available() };
        return index.manifests().iter().find(fits).ok_or_else(missing);
    }
    match index.manifests().as_slice() {
        [] => Err(LayoutError::Unsupported("its index is empty".to_owned())),
        [only] => Ok(only),
        several if several.iter().all(|entry| entry.platform().is_some()) => for_this_machine(index),
        _ => Err(LayoutError::Several { available: available() }),
    }
}

fn tag_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations().as_ref()?.get(REF_NAME).map(String::as_str)
}

/// The entry of an index for this machine. Entries without a platform are taken where it is the only one.
pub(crate) fn for_this_machine(index: &ImageIndex) -> Result<&Descriptor, LayoutError> {
    if let [only] = index.manifests().as_slice()
        && only.platform().is_none()
    {
        return Ok(only);
    }
    let name = |platform: &Platform| format!("{}/{}", platform.os(), platform.architecture());
    let wanted = this_platform();
    let fits =
        |entry: &&Descriptor| entry.platform().as_ref().is_some_and(|platform| name(platform) == wanted);
    index.manifests().iter().find(fits).ok_or_else(|| LayoutError::Platform {
        wanted: wanted.clone(),
        available: index.manifests().iter().filter_map(|entry| entry.platform().as_ref().map(name)).collect(),
    })
}

/// This machine in the words of Go, which images use: `linux/amd64`.
fn this_platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{architecture}")
}

pub(crate) fn is_index(media_type: &MediaType) -> bool {
    *media_type == MediaType::ImageIndex || media_type.to_string() == DOCKER_INDEX
}

pub(crate) fn is_manifest(media_type: &MediaType) -> bool {
    *media_type == MediaType::ImageManifest || media_type.to_string() == DOCKER_MANIFEST
}

fn is_layer(media_type: &MediaType) -> bool {
    use MediaType::{
        ImageLayer, ImageLayerGzip, ImageLayerNonDistributable, ImageLayerNonDistributableGzip,
        ImageLayerNonDistributableZstd, ImageLayerZstd,
    };
    let known = [
        ImageLayer,
        ImageLayerGzip,
        ImageLayerZstd,
        ImageLayerNonDistributable,
        ImageLayerNonDistributableGzip,
        ImageLayerNonDistributableZstd,
    ];
    known.contains(media_type) || DOCKER_LAYERS.contains(&media_type.to_string().as_str())
}
