//! What a command works on: a policy file or a running proxy.

use std::path::PathBuf;

use clap::Args;

use crate::failure::Failure;
use crate::remote::{AdminApi, Client};

#[derive(Debug, Args)]
pub(crate) struct Target {
    /// A policy file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "host", "token_file", "ca_file"])]
    pub(crate) policy: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) proxy: Proxy,
}

#[derive(Debug, Args)]
pub(crate) struct Proxy {
    #[command(flatten)]
    pub(crate) address: Address,
    /// A file with the admin API's token; else the environment's TIDEGATE_TOKEN.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Address {
    /// A running proxy: the address of its admin API, such as <https://proxy.example:8443/.tidegate>; else the
    /// environment's TIDEGATE_URL.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The host that the proxy is asked for, where it is not the URL's, as through a tunnel: one of the policy's
    /// admin_api.hosts; else the environment's TIDEGATE_HOST.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// A file of PEM certificates to trust instead of the system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

impl Address {
    /// The admin API there; `None` where neither a flag nor the environment names one.
    pub(crate) fn admin_api(&self) -> Result<Option<AdminApi>, Failure> {
        let Some(url) = or_environment(self.url.as_deref(), "TIDEGATE_URL") else { return Ok(None) };
        let host = or_environment(self.host.as_deref(), "TIDEGATE_HOST");
        AdminApi::at(&url, host.as_deref(), self.ca_file.as_deref()).map(Some)
    }
}

/// The flag, else what the environment says. Not clap's `env`, which would conflict with `--policy`.
fn or_environment(flag: Option<&str>, name: &str) -> Option<String> {
    let from_environment = || std::env::var(name).ok().filter(|value| !value.is_empty());
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
        if let Some(file) = &self.policy {
            return Ok(Chosen::File(file));
        }
        match self.proxy.address.admin_api()? {
            Some(api) => Client::new(api, self.proxy.token_file.as_deref()).map(Chosen::Proxy),
            None => Err("name a policy file (--policy FILE) or a running proxy (--url URL)".into()),
        }
    }

    /// The running proxy; `what` says why a file will not do.
    pub(crate) fn proxy_only(&self, what: &str) -> Result<Client, Failure> {
        let api = if self.policy.is_none() { self.proxy.address.admin_api()? } else { None };
        let api = api.ok_or_else(|| format!("{what} live in a running proxy: name it with --url URL"))?;
        Client::new(api, self.proxy.token_file.as_deref())
    }
}
