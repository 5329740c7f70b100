//! What a command works on: a policy file or a running proxy.

use std::path::PathBuf;

use clap::Args;

use crate::failure::Failure;
use crate::remote::Client;

#[derive(Debug, Args)]
pub(crate) struct Target {
    /// A policy file.
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    pub(crate) policy: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) proxy: Proxy,
}

#[derive(Debug, Args)]
pub(crate) struct Proxy {
    /// A running proxy: the address of its admin API, such as <https://proxy.example:8443/.tidegate>.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// A file with the admin API's token; else the environment's TIDEGATE_TOKEN.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) token_file: Option<PathBuf>,
    /// A file of PEM certificates to trust instead of the system's.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// One of the two.
pub(crate) enum Chosen<'a> {
    File(&'a std::path::Path),
    Proxy(Client),
}

impl Target {
    /// What was named.
    pub(crate) fn chosen(&self) -> Result<Chosen<'_>, Failure> {
        match (&self.policy, &self.proxy.url) {
            (Some(file), _) => Ok(Chosen::File(file)),
            (None, Some(_)) => Client::new(&self.proxy).map(Chosen::Proxy),
            (None, None) => Err("name a policy file (--policy FILE) or a running proxy (--url URL)".into()),
        }
    }

    /// The running proxy; `what` says why a file will not do.
    pub(crate) fn proxy_only(&self, what: &str) -> Result<Client, Failure> {
        if self.proxy.url.is_none() {
            return Err(format!("{what} live in a running proxy: name it with --url URL").into());
        }
        Client::new(&self.proxy)
    }
}
