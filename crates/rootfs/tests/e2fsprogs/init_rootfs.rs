//! The init container's sources, in their order.

use std::sync::Arc;

use dozlab_rootfs::NoProgress;
use dozlab_rootfs::disk::Method;
use dozlab_rootfs::init_rootfs::{InitRootfs, InitRootfsError};

use super::support::{Lab, assert_is_sound};

#[tokio::test]
async fn the_disk_comes_from_itself_or_the_url_or_the_baked_in_image() {
    let lab = Lab::new();
    let image = lab.ext4("baked in.ext4", 16);
    lab.import("named", &lab.ext4("other.ext4", 24)).await.unwrap();
    let text = |name: &str| lab.path(name).to_str().unwrap().to_owned();
    let run = async |url: &str, size: &str, fallback: &str| {
        let init = InitRootfs::from_env(|name| match name {
            "IMAGE_DOWNLOAD_URL" => Some(url.to_owned()),
            "IMAGE_SIZE" => Some(size.to_owned()),
            "IMAGE_PATH" => Some(text("disk")),
            "LOCAL_DEV_IMAGE_PATH" => Some(text(fallback)),
            "IMAGE_STORE_DIR" => Some(text("store")),
            _ => None,
        })
        .unwrap();
        init.run(Arc::new(NoProgress)).await
    };

    let error = run("", "32M", "absent").await.unwrap_err();
    assert!(matches!(error, InitRootfsError::NoImage { .. }), "{error}");

    let prepared = run("", "32M", "baked in.ext4").await.unwrap();
    assert_ne!(prepared.method, Method::Kept);
    let prepared = run("named", "64M", "absent").await.unwrap();
    assert_eq!((prepared.method, prepared.size), (Method::Kept, 32 << 20));
    std::fs::remove_file(lab.path("disk")).unwrap();

    // 20 MiB would do for the baked-in image, not for the one that is named.
    let error = run("named", "20M", "baked in.ext4").await.unwrap_err().to_string();
    assert!(error.contains("24.0 MiB"), "{error}");
    let error = run("nameless", "32M", "baked in.ext4").await.unwrap_err().to_string();
    assert!(error.contains("there is no image `nameless`: there are named"), "{error}");

    let url = format!("file://{}", image.to_str().unwrap().replace(' ', "%20"));
    let prepared = run(&url, "20M", "absent").await.unwrap();
    assert_eq!(prepared.size, 20 << 20);
    assert_is_sound(&lab.path("disk"));
}
