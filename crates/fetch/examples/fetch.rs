//! Fetches one location into a file, with the credentials that the environment has: for the tests, which give it an
//! environment of its own, and for trying a source out.
//!
//! ```text
//! fetch LOCATION FILE
//! ```

use std::fs::File;
use std::process::ExitCode;
use std::sync::Arc;

use dozlab_fetch::{Expected, Fetcher, Location, Observer, Policy, Secrets, Start, Unwanted};

struct TakesAll;

impl Observer for TakesAll {
    fn begins(&self, _: &Start<'_>) -> Result<(), Unwanted> {
        Ok(())
    }
    fn received(&self, _: u64, _: Option<u64>) {}
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<String, Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [location, target] = arguments.as_slice() else { return Err("usage: fetch LOCATION FILE".into()) };
    let secrets = Secrets::from_env(|name| std::env::var(name).ok())?;
    let fetcher = Fetcher::new(secrets, Policy { attempts: 2, ..Policy::default() })?;
    let target = File::create(target)?;
    let outcome =
        fetcher.fetch(&Location::parse(location)?, &Expected::default(), &target, Arc::new(TakesAll)).await?;
    Ok(format!("{outcome:?}"))
}
