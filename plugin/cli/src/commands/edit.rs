//! `tidegate add` and `remove`: rules of a policy file, without touching anything else in it, or of a running proxy.
//! A file is written only if the result passes the check.

use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};
use ureq::http::Method;

use crate::cli::{AddArgs, RemoveArgs, Target, target::Chosen};
use crate::failure::{Answer, Failure};
use crate::policy_file::{PolicyFile, edit, mask};
use crate::remote::{Client, NOTHING, encoded};
use crate::screen::{Screen, Style, complain, visible};

pub(super) fn add(args: &AddArgs, screen: Screen) -> Result<Answer, Failure> {
    let rule = members(args)?;
    match chosen(&args.target, args.dry_run)? {
        Chosen::Proxy(client) => put(&client, args, &rule, screen),
        Chosen::File(path) => {
            let file = PolicyFile::read(path)?;
            if !is_policy(&file) {
                return Ok(Answer::No);
            }
            let (text, done) = if edit::has(&file.text, &args.name) {
                if !args.force {
                    complain(&format!("tidegate: there is a rule {} already; --force replaces it", args.name));
                    return Ok(Answer::No);
                }
                (edit::replace(&file.text, &args.name, &rule), "replaced")
            } else {
                (edit::add(&file.text, &rule), "added")
            };
            let text = text.ok_or("the file has no list of rules")?;
            finish(&file, &text, args.dry_run, &format!("{done} {}", args.name), screen)
        }
    }
}

pub(super) fn remove(args: &RemoveArgs, screen: Screen) -> Result<Answer, Failure> {
    match chosen(&args.target, args.dry_run)? {
        Chosen::Proxy(client) => {
            let path = format!("/v1/rules/{}", encoded(&args.name));
            let Some(value) = client.json(&Method::DELETE, &path, None, NOTHING)? else { return Ok(Answer::No) };
            super::rows::print_done(screen, &value, &format!("removed {}", args.name))?;
            Ok(Answer::Yes)
        }
        Chosen::File(path) => {
            let file = PolicyFile::read(path)?;
            if !is_policy(&file) {
                return Ok(Answer::No);
            }
            let Some(text) = edit::remove(&file.text, &args.name) else {
                complain(&format!("tidegate: there is no rule {}", args.name));
                return Ok(Answer::No);
            };
            finish(&file, &text, args.dry_run, &format!("removed {}", args.name), screen)
        }
    }
}

/// What is edited. A proxy shows no difference: it would simply be changed, whether a flag names it or the environment.
fn chosen(target: &Target, is_dry: bool) -> Result<Chosen<'_>, Failure> {
    if is_dry && target.policy.is_none() {
        return Err("--dry-run is for files: name one with --policy FILE".into());
    }
    target.chosen()
}

fn put(client: &Client, args: &AddArgs, rule: &edit::Members, screen: Screen) -> Result<Answer, Failure> {
    let path = format!("/v1/rules/{}", encoded(&args.name));
    if !args.force && client.has(&path, &["name"])? {
        complain(&format!("tidegate: there is a rule {} already; --force replaces it", args.name));
        return Ok(Answer::No);
    }
    let body: Value = rule.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let Some(value) = client.json(&Method::PUT, &path, Some(&body), &["rule"])? else { return Ok(Answer::No) };
    super::rows::print_done(screen, &value, &format!("added {}", args.name))?;
    Ok(Answer::Yes)
}

/// The rule as the policy format has it; what is not given is left to the format's defaults.
fn members(args: &AddArgs) -> Result<edit::Members, Failure> {
    let mut rule = vec![
        ("name", json!(args.name)),
        ("scope", json!(args.scope)),
        ("rate", json!(args.rate)),
        ("window_seconds", json!(args.window)),
    ];
    rule.extend(args.burst.map(|burst| ("burst", json!(burst))));
    rule.extend(args.algorithm.as_ref().map(|algorithm| ("algorithm", json!(algorithm))));
    if let Some(strategy) = &args.strategy {
        let value = if strategy.trim_start().starts_with('{') {
            serde_json::from_str(strategy)
                .map_err(|error| Failure(format!("--strategy is neither a name nor a JSON object: {error}")))?
        } else {
            json!(strategy)
        };
        rule.push(("strategy", value));
    }
    let lists = [
        ("endpoints", &args.endpoints),
        ("methods", &args.methods),
        ("user_ids", &args.users),
        ("ip_addresses", &args.ips),
        ("replaces", &args.replaces),
    ];
    rule.extend(lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| (name, json!(list))));
    rule.extend(args.priority.map(|priority| ("priority", json!(priority))));
    rule.extend(args.cost.map(|cost| ("cost", json!(cost))));
    rule.extend(args.shadow.then(|| ("mode", json!("shadow"))));
    Ok(rule)
}

/// Whether the file is a policy as it stands; if not, says why.
fn is_policy(file: &PolicyFile) -> bool {
    let is_policy = file.accepted().is_some();
    if !is_policy {
        complain(&format!("tidegate: {} has mistakes, and is left as it is", file.path.display()));
    }
    is_policy
}

/// Checks the new text, and shows what changed or writes it.
fn finish(file: &PolicyFile, text: &str, is_dry: bool, done: &str, screen: Screen) -> Result<Answer, Failure> {
    let edited = PolicyFile { path: file.path.clone(), text: text.to_owned() };
    let Some(policy) = edited.accepted() else {
        complain(&format!("tidegate: {} would have mistakes, and is left as it is", file.path.display()));
        return Ok(Answer::No);
    };
    let before = file.parse().map(|policy| policy.warnings).unwrap_or_default();
    let edited_warnings = edited.warnings(&policy);
    let told: Vec<String> = before.iter().map(|warning| warning.message.clone()).collect();
    let new: Vec<_> = edited_warnings
        .into_iter()
        .filter(|remark| !told.iter().any(|message| remark.message.ends_with(message.as_str())))
        .collect();
    if is_dry {
        if screen.is_json {
            let diff = diff(file, text, Screen::plain());
            Screen::print_json(&json!({"done": done, "dry_run": true, "diff": diff}))?;
        } else {
            screen.print(&diff(file, text, screen))?;
        }
        return Ok(Answer::Yes);
    }
    file.replace(text)?;
    let place = file.path.display().to_string();
    if screen.is_json {
        Screen::print_json(&json!({"done": done, "file": place, "warnings": new}))?;
    } else {
        complain_about(&edited, &new);
        screen.print(&format!("{} in {}\n", visible(done), visible(&place)))?;
    }
    Ok(Answer::Yes)
}

fn complain_about(edited: &PolicyFile, warnings: &[crate::policy_file::Remark]) {
    let shown = edited.shown(warnings, "warning", Style::Yellow, Screen::plain());
    if !shown.is_empty() {
        complain(shown.trim_end());
    }
}

/// A unified diff with three lines around each change, without secrets.
fn diff(file: &PolicyFile, text: &str, screen: Screen) -> String {
    let (before, after) = (mask(&file.text), mask(text));
    let diff = TextDiff::from_lines(before.as_str(), after.as_str());
    let name = file.path.display().to_string();
    let name = visible(&name);
    let mut out = format!("--- {name}\n+++ {name} (edited)\n");
    for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
        out.push_str(&format!("{}\n", hunk.header()));
        for change in hunk.iter_changes() {
            let line = change.value().trim_end_matches(['\r', '\n']).replace('\t', "    ");
            let line = visible(&line);
            out.push_str(&match change.tag() {
                ChangeTag::Equal => format!(" {line}\n"),
                ChangeTag::Delete => format!("{}\n", screen.paint(Style::Red, &format!("-{line}"))),
                ChangeTag::Insert => format!("{}\n", screen.paint(Style::Green, &format!("+{line}"))),
            });
        }
    }
    out
}
