//! What a command works on: a policy file or a running proxy.

use std::path::PathBuf;

use clap::Args;

use crate::failure::Failure;
use crate::remote::Client;

#[derive(Debug, Args)]
pub(crate) struct Target {
    /// A policy file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "token_file", "ca_file"])]
    pub(crate) policy: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) proxy: Proxy,
}

#[derive(Debug, Args)]
pub(crate) struct Proxy {
    /// A running proxy: the address of its admin API, such as <https://proxy.example:8443/.tidegate>; else the
    /// environment's TIDEGATE_URL.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// A file with the admin API's token; else the environment's TIDEGATE_TOKEN.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// A file of PEM certificates to trust instead of the system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// The proxy's address: the flag, else the environment's. Not clap's `env`, which would conflict with `--policy`.
pub(crate) fn url_or_environment(flag: Option<&str>) -> Option<String> {
    let from_environment = || std::env::var("TIDEGATE_URL").ok().filter(|url| !url.is_empty());
    flag.map(str::to_owned).or_else(from_environment)
}

/// One of the two.
pub(crate) enum Chosen<'a> {
    File(&'a std::path::Path),
    Proxy(Client),
}

impl Target {
    /// What was named.
    pub(crate) fn chosen(&self) -> Result<Chosen<'_>, Failure> {
        match (&self.policy, url_or_environment(self.proxy.url.as_deref())) {
            (Some(file), _) => Ok(Chosen::File(file)),
            (None, Some(url)) => Client::new(&url, &self.proxy).map(Chosen::Proxy),
            (None, None) => Err("name a policy file (--policy FILE) or a running proxy (--url URL)".into()),
        }
    }

    /// The running proxy; `what` says why a file will not do.
    pub(crate) fn proxy_only(&self, what: &str) -> Result<Client, Failure> {
        match url_or_environment(self.proxy.url.as_deref()).filter(|_| self.policy.is_none()) {
            Some(url) => Client::new(&url, &self.proxy),
            None => Err(format!("{what} live in a running proxy: name it with --url URL").into()),
        }
    }
}
