//! Runs every scenario file in this process and prints, as JSON, what was asked and what each request got: what the
//! package must give in every runtime, to the byte. Usage: `observed FOLDER`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Map, Value, json};
use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::scenario::{Observed, Scenario};

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("usage: observed FOLDER");
        return ExitCode::from(2);
    };
    match observe(Path::new(&folder)) {
        Ok(all) => {
            println!("{all}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn observe(folder: &Path) -> Result<Value, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut all = Map::new();
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        all.insert(name.clone(), run(folder, &path).map_err(|error| format!("{name}: {error}"))?);
    }
    Ok(Value::Object(all))
}

fn run(folder: &Path, path: &Path) -> Result<Value, String> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let text = read(path)?;
    let scenario = Scenario::parse(&text)?;
    let policy = scenario.policy_text(|file| read(&folder.join(file)))?;
    let observed = scenario.run(&policy, &Catalogue::builtin())?;
    let requests: Vec<Value> = scenario
        .requests
        .iter()
        .map(|request| {
            let headers: Vec<_> = request.lines().into_iter().filter(|(name, _)| !name.starts_with(':')).collect();
            json!({
                "now_us": scenario.moment(request).micros(),
                "times": request.times,
                "method": request.method,
                "path": request.path,
                "headers": headers,
                "peer": request.peer,
                "metadata": request.metadata,
            })
        })
        .collect();
    let observed: Vec<Value> = observed.iter().map(told).collect();
    Ok(json!({ "policy": policy, "requests": requests, "observed": observed }))
}

fn told(observed: &Observed) -> Value {
    json!({
        "outcome": observed.outcome,
        "rule": observed.rule,
        "status": observed.status,
        "headers": observed.headers,
        "body": observed.body,
    })
}
